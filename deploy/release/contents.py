"""What a distribution must hold: the product's tracked files, each where it belongs, and nothing else."""

import re
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path

from packaging.metadata import Metadata
from packaging.requirements import Requirement

from deploy.release.build import ROOT, Built, members, tracked

ROOMS = ("model", "monitoring", "producers", "stream_app")
SDK = "mle_package/machine_learning_engineering/"
OURS = {"inflight", "inflight-streaming", "inflight-streaming-sdk", "machine-learning-engineering", "ds-package"}
_HOST = re.compile(rb"https?://([\w.-]*(?:proxy|mirror|artifact|registry|index)[\w.-]*)[:/][^\s\"']*(?:simple|pypi)")


def problems(built: Built) -> Iterator[str]:
    """What is wrong with the distributions, each with the file."""
    yield from _wheel(built.wheel, _expected_in_product())
    yield from _wheel(built.sdk_wheel, _expected_in_sdk())
    for path in built.published:
        yield from _metadata(path)
        yield from _traces(path)
    for path in (built.sdist, built.sdk_sdist):
        for name in members(path):
            if re.search(r"(^|/)(tests|benchmarks|notebooks|docs|data)/", name):
                yield f"{path.name} has {name}"


def _expected_in_product() -> set[str]:
    found = {f"inflight/{name.removeprefix('inflight/')}" for name in tracked() if name.startswith("inflight/")}
    for room in ROOMS:
        found |= {f"inflight/rooms/{name}" for name in tracked() if name.startswith(f"{room}/")}
    return found | _expected_in_sdk()


def _expected_in_sdk() -> set[str]:
    return {name.removeprefix("mle_package/") for name in tracked() if name.startswith(SDK)}


def _wheel(path: Path, expected: set[str]) -> Iterator[str]:
    found = {name for name in members(path) if not re.match(r"[^/]+(\.dist-info|\.data/data/share/man)/", name)}
    for name in sorted(expected - found):
        yield f"{path.name} lacks {name}"
    for name in sorted(found - expected):
        yield f"{path.name} has {name}, which is not tracked"
    pages = [name for name in members(path) if name.endswith("share/man/man1/inflight.1")]
    if "sdk" not in path.name and len(pages) != 1:
        yield f"{path.name} has no manual page"


def _metadata(path: Path) -> Iterator[str]:
    """The checks of a package index, before it makes them, and ours: no dependency has a name of ours."""
    for name, content in members(path).items():
        if not re.fullmatch(r"PKG-INFO|[^/]+\.dist-info/METADATA", name):
            continue
        try:
            checked = Metadata.from_email(content, validate=True)
        except ExceptionGroup as group:
            yield from (f"{path.name}: {error}" for error in group.exceptions)
            continue
        if not (checked.description and checked.summary and checked.license_expression and checked.requires_python):
            yield f"{path.name}: description, summary, license or requires-python is missing"
        for requirement in BytesParser().parsebytes(content).get_all("Requires-Dist") or ():
            if Requirement(requirement).name.lower().replace("_", "-") in OURS:
                yield f"{path.name} depends on {requirement}: that name could be anybody's"


def _traces(path: Path) -> Iterator[str]:
    """Of the machine that built it: its folders, and the host of its package index."""
    marks = [str(ROOT).encode(), str(Path.home()).encode() + b"/.", b"/tmp/"[:-1] + b"/inflight-release"]
    for name, content in members(path).items():
        if any(mark in content for mark in marks):
            yield f"{path.name}: {name} names a folder of this machine"
        if host := _HOST.search(content):
            yield f"{path.name}: {name} names the host {host[1].decode()}"
