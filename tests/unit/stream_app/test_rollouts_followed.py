"""A worker follows the rollouts of its registry, by the record and the alias, and never at the champion's cost."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from machine_learning_engineering.registry import rollouts as rollout_file
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.rollout.record import Rollouts
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.runtime.models import LoadedModels
from stream_app.runtime.reload import ModelReloader
from tests.support.rollout_arms import keep, rollout
from tests.support.shadow_model import Faulty as Line
from tests.support.shadow_model import save


class Worker:
    """The part of a worker that follows the registry; `served` counts how often something changed."""

    def __init__(self, registry: Registry) -> None:
        self.loaded = LoadedModels(registry, {"line": Line})
        self.metrics = WorkerMetrics()
        self.served = 0
        self.loaded.open_all()
        self._reloader = ModelReloader(None, self.loaded, self._serve, self.metrics)

    def reload(self) -> None:
        asyncio.run(self._reloader.reload())

    def _serve(self, models: Mapping[str, Any]) -> None:
        self.served += 1

    def answers(self) -> tuple[str, Any, Any]:
        """The version in service, the percentage of the challenger, and the version in the shadow."""
        arms = self.loaded.rollouts.arms.get("line")
        shadow = None if arms is None or arms.shadow is None else arms.shadow.shadow_version
        return self.loaded.models["line"].version, None if arms is None else arms.percent, shadow

    def refused(self) -> float | None:
        return self.metrics.registry.get_sample_value("inflight_worker_rollout_refused", {"model": "line"})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """With v1, the champion, and v2 and v3."""
    found = Registry(tmp_path)
    save(found, 2.0, 3.0, 4.0)
    return found


def of_line(stage: Any, percent: int = 0, **changes: Any) -> Any:
    return rollout(stage, percent, model="line", **changes)


def test_a_rollout_from_start_to_end(registry: Registry) -> None:
    """Nothing is opened twice, and nothing stays open that has no role."""
    worker = Worker(registry)
    champion = worker.loaded.models["line"]
    assert worker.answers() == ("v1", None, None)
    keep(registry, of_line("shadow"))
    worker.reload()
    assert worker.answers() == ("v1", 0, "v2")
    assert set(worker.loaded._opened) == {("line", "v1")}
    for percent in (5, 25):
        keep(registry, of_line("canary", percent))
        worker.reload()
        assert worker.answers() == ("v1", percent, None)
    challenger = worker.loaded._opened["line", "v2"]
    keep(registry, of_line("bake", 100))
    registry.promote("line", "v2", reason="rollout 9f1c2a7b")
    worker.reload()
    assert worker.answers() == ("v2", 100, "v1")
    assert worker.loaded.models["line"] is challenger
    assert worker.loaded._opened["line", "v1"] is champion
    registry.rollback("line")
    worker.reload()
    assert worker.answers() == ("v1", None, None)
    assert worker.loaded.models["line"] is champion
    keep(registry, of_line("finished", outcome="rolled_back"))
    worker.reload()
    assert set(worker.loaded._opened) == {("line", "v1")}


def test_no_key_goes_back_while_a_promotion_is_written(registry: Registry) -> None:
    """The record is written first, and the alias follows: until then, the canary goes on as it was."""
    keep(registry, of_line("canary", 50))
    worker = Worker(registry)
    keep(registry, of_line("bake", 100))
    worker.reload()
    assert worker.answers() == ("v1", 50, None)
    registry.promote("line", "v2", reason="rollout 9f1c2a7b")
    worker.reload()
    assert worker.answers() == ("v2", 100, "v1")
    # The way back by hand: the alias alone, at once.
    registry.rollback("line")
    worker.reload()
    assert worker.answers() == ("v1", None, None)


def test_a_worker_that_starts_in_the_middle_has_the_arms_before_its_first_answer(registry: Registry) -> None:
    keep(registry, of_line("canary", 25))
    assert Worker(registry).answers() == ("v1", 25, None)
    registry.promote("line", "v2", reason="rollout 9f1c2a7b")
    keep(registry, of_line("bake", 100))
    assert Worker(registry).answers() == ("v2", 100, "v1")


def test_what_has_not_changed_is_not_served_again(registry: Registry) -> None:
    """The arms keep what they know of keys."""
    keep(registry, of_line("canary", 25))
    worker = Worker(registry)
    before = worker.loaded.rollouts.arms["line"]
    keep(registry, of_line("canary", 25, paused=True))
    worker.reload()
    assert worker.loaded.rollouts.arms["line"] is before
    assert worker.served == 0


def test_a_promotion_by_hand_of_another_version_ends_the_arms(registry: Registry) -> None:
    keep(registry, of_line("canary", 25))
    worker = Worker(registry)
    registry.promote("line", "v3")
    worker.reload()
    assert worker.answers() == ("v3", None, None)
    keep(registry, None)
    worker.reload()
    assert set(worker.loaded._opened) == {("line", "v3")}


@pytest.mark.parametrize("content", [b"", b"{", b'{"current": {"percent": "much"}}', b"\xff"])
def test_a_record_that_can_not_be_read_leaves_the_champion_alone(
    registry: Registry, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once, and goes on when the record is mended."""
    keep(registry, of_line("canary", 25))
    worker = Worker(registry)
    path = registry.path / "line" / "rollouts.json"
    good = path.read_bytes()
    path.write_bytes(content)
    worker.reload()
    worker.reload()
    assert (worker.answers(), worker.refused()) == (("v1", None, None), 1.0)
    assert caplog.text.count("the rollout of line can't be followed, its champion answers alone") == 1
    assert Worker(registry).answers() == ("v1", None, None)
    path.write_bytes(good)
    worker.reload()
    assert (worker.answers(), worker.refused()) == (("v1", 25, None), 0.0)


def test_a_challenger_that_can_not_be_opened_leaves_the_champion_alone(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request of its keys claims an arm: the controller sees that no challenger answers."""
    keep(registry, of_line("canary", 25))
    (artifact,) = (registry.path / "line" / "v2").glob("*.skops")
    content = artifact.read_bytes()
    artifact.chmod(0o644)
    artifact.write_bytes(content[:-1] + b"x")
    worker = Worker(registry)
    assert worker.answers() == ("v1", None, None)
    worker.reload()
    assert worker.refused() == 1.0
    artifact.write_bytes(content)

    def fail(_: Any) -> None:
        raise KeyError("a secret")

    with monkeypatch.context() as patched:
        patched.setattr(Line, "__init__", fail)
        worker.reload()
    assert "a secret" not in worker.loaded.rollouts.problems["line"]
    worker.reload()
    assert (worker.answers(), worker.refused()) == (("v1", 25, None), 0.0)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"challenger": "v9"}, "v9"),
        ({"model": "other"}, "have one of `other`"),
        ({"policy": {"key": "customer."}}, "rollout.key: 'customer.' has an empty name"),
        ({"salt": "s" * 65}, ""),
    ],
)
def test_a_record_that_makes_no_sense_leaves_the_champion_alone(
    registry: Registry, changes: dict[str, Any], problem: str
) -> None:
    record = of_line("canary", 25, **({"policy": changes["policy"]} if "policy" in changes else {}))
    wrong = msgspec.structs.replace(record, **{name: value for name, value in changes.items() if name != "policy"})
    rollout_file.change(registry.files, "line", lambda _: Rollouts(current=wrong))
    worker = Worker(registry)
    assert worker.answers() == ("v1", None, None)
    assert problem in worker.loaded.rollouts.problems["line"]
