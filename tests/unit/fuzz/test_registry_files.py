"""Files of a registry, which others may have written, and the log of trainings."""

import hashlib
import io
import shutil
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.core import files
from machine_learning_engineering.core.similarity import Similarity
from machine_learning_engineering.drift.binning import reference_profile
from machine_learning_engineering.registry import retrainings, similar
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.profiles import ProfileCache
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.rolling import reconcile
from machine_learning_engineering.rollout import machine
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Rollouts
from machine_learning_engineering.rollout.retraining import Holder, Looks, Retrainings, Run, Trigger
from machine_learning_engineering.rollout.verdict import Check, Verdict
from machine_learning_engineering.training import run_log
from tests.support import fuzz_corpus as corpus
from tests.support.fuzzing import bounded, dose, mutated

_K = "mle_package/machine_learning_engineering/"
DOORS = (
    _K + "registry/aliases.py:_decode",
    _K + "registry/artifacts.py:read_manifest",
    _K + "registry/manifest.py:schemas_equivalent",
    _K + "registry/reader.py:RegistryReader.profile",
    _K + "registry/model_record.py:ModelRecord._decode",
    _K + "registry/similar.py:_decode_header",
    _K + "registry/similar.py:_decode_row",
    _K + "registry/similar.py:_decode_whole_row",
    _K + "registry/skops_file.py:loads",
    _K + "registry/skops_file.py:check_types",
    _K + "registry/skops_file.py:unpacked_size",
    _K + "registry/skops_file.py:types_of",
    _K + "training/run_log.py:read",
)
DEEP = b"[" * 20_000 + b"]" * 20_000
Rewrite = Callable[[str, bytes], None]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with one version, its champion."""
    registry = Registry(tmp_path_factory.mktemp("saved"))
    model = corpus.Houses()
    model.estimator = corpus.fitted().estimator
    rows = [model.decode(msgspec.json.encode(example.features)) for example in corpus.Houses.examples()]
    profile = reference_profile(model, rows, model.predict(rows))
    examples = list(corpus.Houses.examples())
    features, labels = [one.features for one in examples], [one.label for one in examples]
    index = similar.encode(Similarity(("rooms",), "area"), features, labels)
    version = registry.save(
        model, metrics={"r2": 0.9}, training_data_sha256="0", seed=1, profile=profile, similar=index
    )
    registry.promote("houses", version)
    return registry.path


@pytest.fixture
def registry(saved: Path, tmp_path: Path) -> Registry:
    shutil.copytree(saved, tmp_path / "registry")
    return Registry(tmp_path / "registry")


def _rewrite(registry: Registry, file: str, content: bytes) -> None:
    """Put another content into a version, as a writer of the registry can: with its digest in the manifest."""
    folder = registry.path / "houses" / "v1"
    files.write(folder / file, content)
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes())
    manifest["files"][file] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    files.write(folder / "manifest.json", msgspec.json.encode(manifest))


def _is_refused(read: Callable[[], Any], size: int) -> bool:
    try:
        with bounded(size):
            read()
    except RegistryError as error:
        assert "houses" in str(error)
        assert len(str(error)) < 5_000, str(error)[:500]
        return True
    return False


def _everything(registry: Registry) -> None:
    """What commands and workers ask of a registry: nothing but a `RegistryError` may come out of it."""
    for read in (
        lambda: registry.aliases("houses"),
        lambda: registry.history("houses"),
        lambda: registry.locate("houses"),
        lambda: registry.manifest("houses", "v1"),
        lambda: registry.check("houses", "v1", corpus.Houses),
        lambda: registry.profile("houses", "v1"),
        lambda: registry.verify("houses", "v1"),
        lambda: registry.overview(),
        lambda: similar.read(registry.files, registry.manifest("houses", "v1")),
    ):
        _is_refused(read, 100_000)
    ProfileCache(registry.path).get("houses", "v1")


def test_aliases(registry: Registry) -> None:
    path = registry.path / "houses" / "aliases.json"
    old = msgspec.json.encode({"champion": "v1"})

    @dose(15)
    @given(content=mutated([path.read_bytes(), old]))
    @hypothesis.example(content=path.read_bytes().replace(b'"reason"', b'"more":' + DEEP + b',"reason"'))
    @hypothesis.example(content=DEEP)
    def read(content: bytes) -> None:
        files.write(path, content)
        _everything(registry)
        # A promotion mends the file, whatever it holds.
        registry.promote("houses", "v1")
        assert registry.aliases("houses")["champion"] == "v1"

    read()


def test_rollouts(registry: Registry) -> None:
    path = registry.path / "houses" / "rollouts.json"
    now = datetime(2026, 3, 1, tzinfo=UTC)
    started = machine.start(
        Rollouts(),
        model="houses",
        champion="v1",
        challenger="v2",
        policy=RolloutPolicy(),
        now=now,
        by="ada",
        reason="retrained",
    )
    ended = machine.advance(started, Verdict("fail", "worse", (Check("errors", "fail", "2 of 9"),)), now)

    @dose(15)
    @given(content=mutated([corpus.ROLLOUTS, *(msgspec.json.encode(one) for one in (started, ended))]))
    @hypothesis.example(content=msgspec.json.encode(started).replace(b'"salt"', b'"more":' + DEEP + b',"salt"'))
    @hypothesis.example(content=DEEP)
    def read(content: bytes) -> None:
        files.write(path, content)
        _everything(registry)
        _is_refused(lambda: registry.rollouts("houses"), 100_000)
        _is_refused(lambda: registry.named("houses"), 100_000)
        _is_refused(lambda: reconcile(registry, "houses", now), 100_000)

    read()


def test_retrainings(registry: Registry) -> None:
    path = registry.path / "houses" / retrainings.RETRAININGS.file
    now = datetime(2026, 1, 1, tzinfo=UTC)
    trigger = Trigger(kind="drift", slot="drift-w", at=now, reason="drifted", evidence={"p": 0.1})
    run = Run(trigger=trigger, champion="v1", holder=Holder("m", 1, 2, "t"), started_at=now, deadline=now)
    known = Retrainings(runs=(run,), looks=Looks(1, now, 200, "v1"), revision=3)

    @dose(15)
    @given(content=mutated([msgspec.json.encode(known)]))
    @hypothesis.example(content=b'{"runs":' + DEEP + b"}")
    @hypothesis.example(content=DEEP)
    def read(content: bytes) -> None:
        files.write(path, content)
        _everything(registry)
        _is_refused(lambda: retrainings.read(registry.files, "houses"), 100_000)

    read()


def test_manifest(registry: Registry) -> None:
    path = registry.path / "houses" / "v1" / "manifest.json"
    content = path.read_bytes()

    @dose(15)
    @given(content=mutated([content]))
    @hypothesis.example(content=content.replace(b'"params": {', b'"params": {"a":' + DEEP + b","))
    @hypothesis.example(content=content.replace(b'"params": {', b'"params": {"a":' + DEEP))
    @hypothesis.example(content=content.replace(b'"seed": 1', b'"seed": ' + b"9" * 30))
    @hypothesis.example(content=content.replace(b'"houses"', b'"' + b"y" * 9_000 + b'"'))
    @hypothesis.example(content=content.replace(b'"libraries": {', b'"libraries": {"": "1",'))
    def read(content: bytes) -> None:
        files.write(path, content)
        _everything(registry)

    read()


def test_profile(registry: Registry) -> None:
    content = (registry.path / "houses" / "v1" / "profile.json").read_bytes()

    @dose(20)
    @given(content=mutated([content]))
    @hypothesis.example(content=b"\xff" + content)
    @hypothesis.example(content=b'{"a":' + DEEP + b"," + content[1:])
    @hypothesis.example(content=content.replace(b'"number"', b'"' + b"y" * 9_000 + b'"'))
    def read(content: bytes) -> None:
        _rewrite(registry, "profile.json", content)
        _everything(registry)

    read()


def test_index_of_similar_rows(registry: Registry) -> None:
    """What is read as one can be searched, and all rows of it are found."""
    content = (registry.path / "houses" / "v1" / "similar.jsonl").read_bytes()

    @dose(20)
    @given(content=mutated([content]))
    @hypothesis.example(content=b"\xff" + content)
    @hypothesis.example(content=content.replace(b'"area":0.0', b'"area":' + DEEP, 1))
    @hypothesis.example(content=content.replace(b'"area":0.0', b'"area":1e999', 1))
    @hypothesis.example(content=content.replace(b'"area":0.0', b'"area":' + b"9" * 400, 1))
    @hypothesis.example(content=content.replace(b'"rooms"', b'"area"', 1))
    @hypothesis.example(content=content.replace(b"\n", b"\n\n"))
    def read(content: bytes) -> None:
        _rewrite(registry, "similar.jsonl", content)
        _everything(registry)
        with suppress(RegistryError):
            index = similar.read(registry.files, registry.manifest("houses", "v1"))
            assert index is not None
            rows = [msgspec.json.decode(line)["features"] for line in content.split(b"\n")[1:-1]]
            kinds = {tuple(row.get(name) for name in index.similarity.by) for row in rows}
            found = [index.search(kind, 3.0, 1_000) for kind in kinds]
            assert sum(len(one.rows) for one in found) == len(index)
            assert msgspec.json.decode(msgspec.json.encode(found))

    read()


def _repacked(content: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        for part in old.namelist():
            data = old.read(part)
            new.writestr(part, change(data) if part == name else data)
    return packed.getvalue()


def test_model_file(registry: Registry) -> None:
    whole = (registry.path / "houses" / "v1" / "model.skops").read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as parts:
        schema, arrays = parts.read("schema.json"), [one for one in parts.namelist() if one != "schema.json"]

    @dose(20)
    @given(
        content=mutated([whole], most=2)
        | mutated([schema]).map(lambda text: _repacked(whole, "schema.json", lambda _: text))
        | st.sampled_from(arrays).flatmap(
            lambda name: st.binary(max_size=200).map(lambda data: _repacked(whole, name, lambda _: data))
        )
    )
    @hypothesis.example(content=_repacked(whole, "schema.json", lambda _: DEEP))
    def read(content: bytes) -> None:
        _rewrite(registry, "model.skops", content)
        opened: list[Any] = []
        # A file that names an operator may open as something else: what it predicts is its writer's, code is not.
        if not _is_refused(lambda: opened.append(registry.open("houses", model_class=corpus.Houses)), 200_000):
            assert opened[0].version == "v1"

    read()


def test_log_of_trainings(tmp_path: Path) -> None:
    path = tmp_path / "training-log.jsonl"
    for number in range(3):
        entry = run_log.TrainingEntry(
            run_id=f"t{number}",
            outcome="completed",
            model="houses",
            started_at=datetime(2026, 1, 1, tzinfo=UTC),
            seconds=1.0,
            seed=1,
            libraries=run_log.libraries(),
            metrics={"r2": 0.9},
        )
        run_log.append(path, entry)
    content = path.read_bytes()

    @dose(15)
    @given(content=mutated([content]))
    def read(content: bytes) -> None:
        files.write(path, content)
        with bounded(len(content)), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = list(run_log.read(path))
        lines = content.split(b"\n")
        assert len(found) + len(caught) == len(lines) - (lines[-1] == b"")
        # Written again, it is the same.
        for entry in found:
            try:
                run_log.append(tmp_path / "again.jsonl", entry)
            except (ValueError, TypeError):
                pytest.fail(f"an entry that was read can't be written: {entry!r:.300}")

    read()


def test_names_of_versions(registry: Registry) -> None:
    @dose(20)
    @given(
        name=st.text(max_size=12) | st.sampled_from(["v1 ", "v01", "v\u0661", "v" + "9" * 5_000, "..", "v0", "v1\n"])
    )
    def read(name: str) -> None:
        _is_refused(lambda: registry.locate(f"houses@{name}"), 1_000)
        _is_refused(lambda: registry.locate(f"models:/houses/{name}"), 1_000)
        folder = registry.path / "houses" / name.replace("/", "").replace("\0", "")[:200]
        made = bool(name.strip(". /\0")) and not folder.exists()
        if made:
            try:
                folder.mkdir()
            except (OSError, UnicodeEncodeError):
                return
        assert registry.versions("houses")
        if made:
            folder.rmdir()

    read()
