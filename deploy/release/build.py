"""Builds the distributions from the files of the last commit, twice: the same bytes must come out."""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
PROJECTS = (".", "mle_package", "ds/ds_package")
"""The product, the SDK alone, and the example of a model's package, which is built to be tried and not published."""


class NotReproducible(Exception):
    """Two builds differ, or a distribution is not what it should be. The message names the file."""


class Built(NamedTuple):
    """Distributions of the product, of the SDK alone, and of the example."""

    sdist: Path
    wheel: Path
    sdk_sdist: Path
    sdk_wheel: Path
    example: Path

    @property
    def published(self) -> list[Path]:
        """What a release uploads."""
        return [self.sdist, self.wheel, self.sdk_sdist, self.sdk_wheel]


def moment() -> int:
    """`SOURCE_DATE_EPOCH`, by default the time of the last commit, in seconds since the epoch."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    return int(_output("git", "log", "-1", "--format=%ct"))


def build(target: Path, page: str) -> Built:
    """Build everything into a folder, from a copy of the tracked files as they are in the work tree.

    Raises:
        NotReproducible: a second build, from another folder, gives other bytes.
    """
    first, second = (_build_once(target / name, page) for name in ("first", "second"))
    for one, other in zip(first, second, strict=True):
        if _digest(one) != _digest(other):
            raise NotReproducible(f"{one.name} differs between two builds")
    shutil.rmtree(target / "second")
    return first


def _build_once(folder: Path, page: str) -> Built:
    source = folder / "source"
    _export(source)
    (source / "man").mkdir()
    (source / "man" / "inflight.1").write_text(page, encoding="utf-8")
    out = folder / "dist"
    for project in PROJECTS:
        # The wheel is built from the source distribution, as whoever has no wheel for a platform would.
        _run(
            str(UV),
            "build",
            "--quiet",
            "--build-constraints",
            str(ROOT / "build.lock"),
            "--out-dir",
            str(out),
            cwd=source / project,
        )
    shutil.rmtree(source)

    def one(pattern: str) -> Path:
        [found] = out.glob(pattern)
        return found

    return Built(
        one("inflight_streaming-*.tar.gz"),
        one("inflight_streaming-*.whl"),
        one("inflight_streaming_sdk-*.tar.gz"),
        one("inflight_streaming_sdk-*.whl"),
        one("ds_package-*.whl"),
    )


def _export(target: Path) -> None:
    for name in tracked():
        found = ROOT / name
        if found.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, target / name)


def tracked() -> list[str]:
    """The paths of the tracked files, relative to the repository."""
    return _output("git", "ls-files", "-z").strip("\0").split("\0")


def members(distribution: Path) -> dict[str, bytes]:
    """The files of a wheel or source distribution by path."""
    import zipfile

    if distribution.suffix == ".whl":
        with zipfile.ZipFile(distribution) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    found = {}
    with gzip.open(distribution) as raw, tarfile.open(fileobj=raw) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                found[member.name.partition("/")[2]] = content.read()
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _run(*command: str, cwd: Path) -> None:
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(moment())}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotReproducible(f"{' '.join(command[1:3])} in {cwd.name} failed: {done.stderr.strip()[-2000:]}")
