"""One suite over registries in a folder and behind a URL, with and without signatures."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from inflight.settings import Settings
from machine_learning_engineering.registry.manifest import AliasesChanged, CorruptModel, ModelNotFound
from machine_learning_engineering.registry.profiles import ProfileCache
from machine_learning_engineering.registry.reader import RegistryReader
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import Trials
from machine_learning_engineering.storage.location import Location
from machine_learning_engineering.storage.store import StoreUnavailable
from machine_learning_engineering.training.quick import train
from producers.gateway.catalog import Catalog
from producers.gateway.console import versions
from tests.support.line_model import Line
from tests.support.object_store import S3Server

KEY = "k" * 32


@pytest.fixture(params=["folder", "signed folder", "s3", "signed s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Location:
    if request.param == "folder":
        return tmp_path / "registry"
    keys = (KEY,) if request.param.startswith("signed") else ()
    url = str(tmp_path / "registry")
    if request.param.endswith("s3"):
        server: S3Server = request.getfixturevalue("s3")
        url = server.new_bucket() + "/registry"
    return Location(url, cache=tmp_path / "cache", keys=keys)


@pytest.fixture
def registry(place: Path | Location) -> Registry:
    return Registry(place)


def fitted() -> Line:
    model = Line()
    model.fit([Line.Features(1.0), Line.Features(2.0)], [2.0, 4.0], seed=1)
    return model


def save(registry: Registry, model: Line | None = None) -> str:
    return registry.save(model or fitted(), metrics={"r2": 0.9}, training_data_sha256="ab" * 32, seed=1)


def test_the_life_of_a_version(registry: Registry, place: Path | Location) -> None:
    assert (registry.models(), registry.versions("line"), registry.aliases("line")) == ([], [], {})
    with pytest.raises(ModelNotFound, match="inflight train line"):
        registry.open("line", model_class=Line)
    assert [save(registry), save(registry), save(registry)] == ["v1", "v2", "v3"]
    registry.promote("line", "v1", reason="first")
    registry.promote("line", "v2", alias="challenger")
    registry.promote("line", "v2", reason="better")
    elsewhere = Registry(place)
    assert elsewhere.aliases("line") == {"champion": "v2"}
    assert [change.reason for change in elsewhere.history("line") if change.alias == "champion"] == ["first", "better"]
    assert elsewhere.open("line", model_class=Line).version == "v2"
    assert elsewhere.rollback("line") == "v1"
    assert registry.champions() == {"line": "v1"}
    assert registry.models() == ["line"]
    assert registry.manifest("line", "v3").metrics == {"r2": 0.9}
    assert registry.profile("line", "v3") is None
    assert registry.declaration("line", "v3") is None
    versions, errors = registry.overview()
    assert ([manifest.version for manifest, _ in versions], errors) == (["v1", "v2", "v3"], [])
    with pytest.raises(ModelNotFound, match="no version 'v4'"):
        registry.manifest("line", "v4")


@pytest.mark.parametrize("place", ["signed s3"], indirect=True)
def test_a_trial_needs_neither_store_nor_key(registry: Registry, tmp_path: Path) -> None:
    save(registry)
    trials = Trials(registry, tmp_path / "tried")
    trials.require("line", "v1", Line)
    [verdict] = (tmp_path / "tried").iterdir()
    assert verdict.read_bytes() == b"passed"


def test_machines_that_save_at_once_get_a_number_each(place: Path | Location) -> None:
    barrier, found = threading.Barrier(4), []

    def run() -> None:
        registry, model = Registry(place), fitted()
        barrier.wait()
        found.extend(save(registry, model) for _ in range(3))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == len(set(found)) == 12
    registry = Registry(place)
    assert sorted(registry.versions("line")) == sorted(found)
    assert all(registry.verify("line", version) for version in found)


PROMOTE = """
import sys
from pathlib import Path
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.storage.location import Location

url, cache, key, who = sys.argv[1:]
place = Location(url, cache=Path(cache), keys=(key,) if key else ()) if cache else Path(url)
registry = Registry(place)
for number in range(5):
    registry.promote("line", f"v{1 + number % 2}", alias=f"of-{who}", reason=f"{who} {number}")
"""


@pytest.mark.parametrize("place", ["folder", "signed s3"], indirect=True)
def test_no_change_of_machines_that_promote_at_once_is_lost(place: Path | Location, tmp_path: Path) -> None:
    registry = Registry(place)
    save(registry)
    save(registry)
    known = (str(place), "", "") if isinstance(place, Path) else (place.url, "", *place.keys)
    processes = []
    for who in "abc":
        home = "" if isinstance(place, Path) else str(tmp_path / f"cache-{who}")
        arguments = (known[0], home, "".join(known[2:]), who)
        processes.append(subprocess.Popen([sys.executable, "-c", PROMOTE, *arguments]))
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert registry.aliases("line") == {"of-a": "v1", "of-b": "v1", "of-c": "v1"}
    for who in "abc":
        assert [one.reason for one in registry.history("line") if one.alias == f"of-{who}"] == [
            f"{who} {number}" for number in range(5)
        ]


def test_a_training_promotes_by_its_rule(place: Path | Location, training_settings) -> None:  # type: ignore[no-untyped-def]
    settings = training_settings.model_copy(update={"registry": place})
    run = train(Line, settings)
    assert run.promoted
    assert Registry(settings.registry_dir).champions() == {"line": "v1"}


def test_readers_without_model_code_follow(place: Path | Location) -> None:
    """The gateway's catalog, the console, and the profiles of the drift monitor."""
    registry, catalog, console = Registry(place), Catalog(place), RegistryReader(place)
    assert not catalog.refresh()
    with pytest.raises(LookupError):
        versions.of_model(console, "line")
    save(registry)
    save(registry)
    assert not catalog.refresh()
    registry.promote("line", "v1")
    assert catalog.refresh()
    assert not catalog.refresh()
    assert catalog.models["line"].version == "v1"
    registry.promote("line", "v2")
    assert catalog.refresh()
    assert catalog.models["line"].version == "v2"
    shown = versions.of_model(console, "line")
    assert [one["version"] for one in shown["versions"]] == ["v2", "v1"]
    assert shown["versions"][0]["aliases"] == ["champion"]
    assert ProfileCache(place).get("line", "v1") is None


# --- behind a URL ----------------------------------------------------------------------------------------------------


@pytest.fixture
def remote(s3: S3Server, tmp_path: Path) -> Location:
    return Location(s3.new_bucket() + "/registry", cache=tmp_path / "here", keys=(KEY,))


def test_an_edit_that_met_another_one_is_refused_or_made_again(remote: Location) -> None:
    registry, other = Registry(remote), Registry(remote)
    save(registry)
    save(registry)

    def late() -> None:
        with registry.edit_aliases("line") as aliases:
            other.promote("line", "v1", reason="other")
            aliases["champion"] = "v2"

    with pytest.raises(AliasesChanged, match="changed by somebody else in the meantime"):
        late()
    assert registry.champions() == {"line": "v1"}
    seen = []

    def change(aliases: dict[str, str]) -> None:
        if not seen:
            other.promote("line", "v2", reason="other again")
        seen.append(aliases.get("champion"))
        aliases["canary"] = "v1"

    registry.change_aliases("line", change, "ours")
    assert seen == ["v1", "v2"]
    assert [one.reason for one in registry.history("line")] == ["other", "other again", "ours"]


def test_a_cached_version_needs_no_download_and_no_store(s3: S3Server, remote: Location, tmp_path: Path) -> None:
    registry = Registry(remote)
    save(registry)
    registry.promote("line", "v1")
    assert registry.champions() == {"line": "v1"}
    assert registry.open("line", model_class=Line).version == "v1"
    with s3.fault(method="GET", path="model.skops", status=500):
        assert registry.open("line", model_class=Line).version == "v1"
    assert registry.files.problem == ""
    for fault in ({"status": 403}, {"status": 500}):
        with s3.fault(**fault):
            cold = Registry(remote)
            assert cold.champions() == {"line": "v1"}
            assert cold.open("line", model_class=Line).version == "v1"
            assert cold.files.problem.startswith(remote.url)
            with pytest.raises(StoreUnavailable):
                cold.promote("line", "v1")
            with pytest.raises(StoreUnavailable):
                save(cold)
            with pytest.raises(StoreUnavailable):
                cold.verify("line", "v1")
        assert cold.champions() == {"line": "v1"}
        assert cold.files.problem == ""
    assert registry.versions("line") == ["v1"]
    with s3.fault(status=403), pytest.raises(StoreUnavailable, match="denies access"):
        Registry(replace(remote, cache=tmp_path / "another machine")).champions()


def test_readers_go_on_while_the_store_is_away(s3: S3Server, remote: Location, tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path / "home", registry=remote)  # type: ignore[call-arg]
    place = replace(remote, keys=())
    train(Line, settings)
    catalog, profiles = Catalog(place), ProfileCache(place)
    catalog.refresh()
    assert profiles.get("line", "v1") is not None
    with s3.fault(status=403):
        for one in (catalog, Catalog(place)):
            one.refresh()
            assert one.models["line"].version == "v1"
        assert ProfileCache(place).get("line", "v1") is not None
        cold = replace(place, cache=tmp_path / "another machine")
        assert not Catalog(cold).refresh()
        assert ProfileCache(cold).get("line", "v1") is None


def test_a_damaged_cache_is_downloaded_again(remote: Location, tmp_path: Path) -> None:
    registry = Registry(remote)
    save(registry)
    registry.open("line", "v1", model_class=Line)
    [cached] = (tmp_path / "here" / "files").iterdir()
    cached.write_bytes(b"damaged")
    assert registry.open("line", "v1", model_class=Line).version == "v1"
    assert cached.read_bytes() != b"damaged"


def test_a_cache_is_bounded_and_keeps_what_was_used_last(remote: Location, tmp_path: Path) -> None:
    saved = Registry(remote)
    for _ in range(3):
        model = fitted()
        model.estimator.coef_ += len(saved.versions("line"))
        save(saved, model)
    size = saved.manifest("line", "v1").files["model.skops"].size
    small = Registry(replace(remote, cache=tmp_path / "small", cache_bytes=size * 2 + 100))
    for version in ("v1", "v2", "v1", "v3"):
        small.open("line", version, model_class=Line)
    kept = {path.name for path in (tmp_path / "small" / "files").iterdir()}
    digests = {v: saved.manifest("line", v).files["model.skops"].sha256 for v in ("v1", "v2", "v3")}
    assert kept == {digests["v1"], digests["v3"]}


def test_a_swapped_file_is_refused_and_the_cached_one_serves(remote: Location, tmp_path: Path) -> None:
    registry = Registry(remote)
    save(registry)
    registry.promote("line", "v1")
    registry.open("line", model_class=Line)
    swapped = b"x" * registry.manifest("line", "v1").files["model.skops"].size
    with registry.files.store.edit("line/v1/model.skops") as file:
        file.replace(swapped)
    assert registry.open("line", model_class=Line).version == "v1"
    with pytest.raises(CorruptModel, match="it was not opened"):
        registry.verify("line", "v1")
    other = Registry(replace(remote, cache=tmp_path / "another machine"))
    with pytest.raises(CorruptModel, match="it was not opened"):
        other.open("line", model_class=Line)
    with registry.files.store.edit("line/v1/model.skops") as file:
        file.replace(swapped * 1000)
    with pytest.raises(CorruptModel, match="more than"):
        other.open("line", model_class=Line)
