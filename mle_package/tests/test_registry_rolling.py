"""Rollouts and aliases: bars, the flip of a promotion and back, and what is left after a kill at any moment."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import msgspec
import pytest

from machine_learning_engineering.registry import retrainings
from machine_learning_engineering.registry.manifest import CorruptModel, RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.resigning import sign_all
from machine_learning_engineering.registry.rolling import change_rollouts, reason_of, reconcile
from machine_learning_engineering.registry.signing import SignatureRefused
from machine_learning_engineering.rollout import machine
from machine_learning_engineering.rollout.machine import advance
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Rollout, Rollouts
from machine_learning_engineering.rollout.retraining import Looks, Retrainings
from machine_learning_engineering.rollout.verdict import Verdict
from machine_learning_engineering.storage.location import Location

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WHO = {"model": "doubler", "now": NOW, "by": "ada", "reason": "so"}
PASS, FAIL = Verdict("pass", "better"), Verdict("fail", "worse")
START = partial(machine.start, champion="v1", challenger="v2", policy=RolloutPolicy(ramp=(5,), bake=0.0), **WHO)


@pytest.fixture
def registry(tmp_path, doubler) -> Registry:
    """Three versions, the first of which is the champion."""
    registry = Registry(tmp_path / "registry")
    for _ in range(3):
        registry.save(doubler, metrics={"r2": 0.9}, training_data_sha256="ab" * 32, seed=1)
    registry.promote("doubler", "v1")
    return registry


def change(registry: Registry, *edits: Callable[[Rollouts], Rollouts]) -> Rollout:
    """Make each edit, with the alias following as the controller does it."""
    for edit in edits:
        change_rollouts(registry, "doubler", edit)
        reconcile(registry, "doubler", NOW)
    current = registry.rollouts("doubler").current
    assert current is not None
    return current


def judged(verdict: Verdict) -> Callable[[Rollouts], Rollouts]:
    return lambda rollouts: advance(rollouts, verdict, NOW)


def command(name: str) -> Callable[[Rollouts], Rollouts]:
    return lambda rollouts: getattr(machine, name)(rollouts, **WHO)


def champion(registry: Registry) -> str:
    return registry.champions()["doubler"]


def test_the_alias_follows_the_promotion_and_the_rollback(registry):
    rollout = change(registry, START, judged(PASS), judged(PASS))
    assert (rollout.stage, champion(registry)) == ("bake", "v2")
    rollout = change(registry, judged(FAIL))
    assert (rollout.outcome, champion(registry)) == ("rolled_back", "v1")
    there, back = registry.history("doubler")[-2:]
    assert (there.reason, there.rollback, back.reason, back.rollback) == (
        reason_of(rollout),
        False,
        reason_of(rollout),
        True,
    )
    assert reconcile(registry, "doubler", NOW) == (registry.rollouts("doubler"), None)


def test_a_barred_version_is_promoted_by_no_way_until_it_is_unbarred(registry):
    registry.promote("doubler", "v2")
    registry.promote("doubler", "v3")
    change(registry, partial(START, champion="v3", challenger="v2"), judged(FAIL))
    for way in (registry.rollback, partial(registry.promote, version="v2")):
        with pytest.raises(RegistryError, match=r"v2 of model `doubler` is barred .*inflight rollout unbar doubler v2"):
            way("doubler")
    assert champion(registry) == "v3"
    registry.promote("doubler", "v2", alias="seen")
    change(registry, lambda rollouts: machine.unbar(rollouts, "v2", **WHO))
    registry.rollback("doubler")
    assert champion(registry) == "v2"


@pytest.mark.parametrize("passes", [0, 1, 2])
def test_a_promotion_by_hand_ends_the_rollout(registry, passes):
    change(registry, START, *[judged(PASS)] * passes)
    registry.promote("doubler", "v3", reason="by hand")
    rollouts, flip = reconcile(registry, "doubler", NOW)
    assert (rollouts.current.outcome, rollouts.current.steps[-1].reason) == (
        "aborted",
        "v3 became the champion: by hand",
    )
    assert (champion(registry), flip, rollouts.barred) == ("v3", None, {})


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_an_alias_that_older_code_has_moved_ends_the_rollout_and_stays(registry, version):
    change(registry, START, judged(PASS), judged(PASS))
    with registry.edit_aliases("doubler", "rolled back by a person") as aliases:
        aliases["champion"] = version
    rollout = change(registry)
    reconcile(registry, "doubler", NOW)
    rollout = registry.rollouts("doubler").current
    assert (rollout.outcome, champion(registry)) == ("aborted", version)
    assert "rolled back by a person" in rollout.steps[-1].reason


def test_an_abort_in_the_bake_restores_the_champion_and_bars_nothing(registry):
    change(registry, START, judged(PASS), judged(PASS), command("abort"))
    assert (champion(registry), registry.rollouts("doubler").barred) == ("v1", {})
    registry.promote("doubler", "v2", reason="after all")
    assert reconcile(registry, "doubler", NOW)[1] is None
    assert champion(registry) == "v2"


class Killed(BaseException):
    """Instead of SIGKILL: nothing after it is done."""


_WAYS = {
    "promoted": [judged(PASS), judged(PASS)],
    "by a person": [command("promote")],
    "confirmed": [judged(PASS), judged(PASS), judged(PASS)],
    "refused": [judged(FAIL)],
    "rolled back": [judged(PASS), judged(PASS), judged(FAIL)],
    "aborted": [judged(PASS), judged(PASS), command("abort")],
}


@pytest.mark.parametrize("way", _WAYS)
def test_a_kill_before_or_after_any_write_leaves_what_reconcile_mends(registry, monkeypatch, way):
    """Each write of each way is the last one; what follows ends as if nothing had happened."""
    import machine_learning_engineering.core.files as files

    write, left = files.replace, [0]

    def killing(path, content):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        write(path, content)

    change(registry, START)
    fresh = {path: path.read_bytes() for path in (registry.path / "doubler").glob("*.json")}
    ends, writes = set(), 0
    while True:
        for path, content in fresh.items():
            path.write_bytes(content)
        left[0], killed = writes, False
        try:
            with monkeypatch.context() as patched:
                patched.setattr(files, "replace", killing)
                _drive(registry, _WAYS[way])
        except Killed:
            killed = True
        left[0] = -1
        _drive(registry, _WAYS[way])
        rollout = registry.rollouts("doubler").current
        ends.add((rollout.stage, rollout.outcome, len(rollout.steps), champion(registry)))
        if not killed:
            break
        writes += 1
    assert writes >= len(_WAYS[way])
    assert len(ends) == 1, ends


def _drive(registry: Registry, edits: list[Callable[[Rollouts], Rollouts]]) -> None:
    """What a controller does, begun anew: it reconciles, and takes the steps that the record does not have."""
    reconcile(registry, "doubler", NOW)
    current = registry.rollouts("doubler").current
    assert current is not None
    change(registry, *edits[len(current.steps) - 1 :])


def test_a_signed_file_is_refused_if_it_is_old_or_unsigned(tmp_path, doubler):
    key = "old-key-0123456789"
    registry = Registry(Location(str(tmp_path / "registry"), cache=tmp_path / "cache", keys=(key,)))
    registry.save(doubler, metrics={"r2": 0.9}, training_data_sha256="ab" * 32, seed=1)
    registry.promote("doubler", "v1")
    file = registry.path / "doubler" / "rollouts.json"
    change(registry, START)
    old = file.read_bytes()
    change(registry, judged(FAIL))
    assert "v2" in registry.rollouts("doubler").barred
    for content in (old, None):
        file.write_bytes(content) if content else file.unlink()
        with pytest.raises(CorruptModel, match=r"old file: revision .*inflight models sign"):
            registry.rollouts("doubler")
        with pytest.raises(CorruptModel, match="old file"):
            change_rollouts(registry, "doubler", command("abort"))
    assert "the rollouts of doubler" in list(sign_all(registry.place))
    assert registry.rollouts("doubler").current is None
    file.write_text(json.dumps(json.loads(file.read_text()) | {"signature": ""}))
    with pytest.raises(SignatureRefused):
        registry.rollouts("doubler")


def test_versions_that_a_rollout_names_are_named(registry):
    change(registry, START)
    assert registry.named("doubler") == {"v1", "v2"}


def test_a_signed_file_of_retrainings_is_refused_if_it_is_old_or_unsigned(tmp_path, doubler):
    registry = Registry(Location(str(tmp_path / "registry"), cache=tmp_path / "cache", keys=("old-key-0123456789",)))
    registry.save(doubler, metrics={"r2": 0.9}, training_data_sha256="ab" * 32, seed=1)
    registry.promote("doubler", "v1")
    file = registry.path / "doubler" / "retrainings.json"

    def look(before: Retrainings) -> Retrainings:
        return msgspec.structs.replace(before, looks=Looks(number=before.looks.number + 1))

    retrainings.change(registry.files, "doubler", look)
    old = file.read_bytes()
    retrainings.change(registry.files, "doubler", look)
    assert retrainings.read(registry.files, "doubler").looks.number == 2
    for content in (old, None):
        file.write_bytes(content) if content else file.unlink()
        with pytest.raises(CorruptModel, match=r"old file: revision .*inflight models sign"):
            retrainings.read(registry.files, "doubler")
        with pytest.raises(CorruptModel, match="old file"):
            retrainings.change(registry.files, "doubler", look)
    assert "the retrainings of doubler" in list(sign_all(registry.place))
    assert retrainings.read(registry.files, "doubler").looks.number == 0
    file.write_text(json.dumps(json.loads(file.read_text()) | {"signature": ""}))
    with pytest.raises(SignatureRefused):
        retrainings.read(registry.files, "doubler")
    list(sign_all(registry.place))
    assert retrainings.change(registry.files, "doubler", look).looks.number == 1
