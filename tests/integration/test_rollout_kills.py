"""kill -9 of the rollout controller before and after each of its writes and publications, on a real broker.

Whatever was done last, the next controller ends the rollout as if nothing had happened: one step after the other, the
alias as the record says, and each step on the topic.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from inflight.settings import Settings
from machine_learning_engineering.events.schemas import RolloutChanged, decode_model_event
from machine_learning_engineering.events.topics import MODEL_EVENTS
from machine_learning_engineering.kafka.client import read_to_end
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.rolling import change_rollouts, reconcile
from machine_learning_engineering.rollout import machine
from machine_learning_engineering.rollout.policy import RolloutPolicy
from tests.support.doses import FULL
from tests.support.scripted_rollouts import line_registry
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "support" / "programs" / "rollout_controller.py"
WHO: dict[str, Any] = {"model": "line", "by": "ada", "reason": "so"}
WAYS = {
    # Of each: what the judge says, how many points there are, the steps, and the champion at the end.
    "promoted": ("pass", 9, ["started", "widened", "promoted", "confirmed"], "v2"),
    "rolled back": ("fail", 6, ["started", "promoted", "rolled_back"], "v1"),
    "refused": ("fail", 3, ["started", "refused"], "v1"),
}
POINTS = [(way, n) for way, (_, points, *_) in WAYS.items() for n in range(1, points + 1)]
ALL = [(way, f"{n}{after}") for way, n in POINTS for after in ("", "+")]
SOME = [("promoted", "4+"), ("promoted", "5+"), ("rolled back", "4"), ("refused", "2+")]


class Controllers:
    """Runs the program, one process after the other."""

    def __init__(self, settings: Settings, home: Path, status: Path) -> None:
        variables = {
            "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
            "INFLIGHT_HOME": str(home),
            "INFLIGHT_ROLLOUT_INTERVAL": "0.05",
            "INFLIGHT_ROLLOUT_CONTROLLER_METRICS_PORT": "0",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INFLIGHT_")}
        self._environment = kept | variables | {"PYTHONPATH": str(ROOT)}
        self._status = status
        self.log = home / "controller.log"

    def until_killed(self, point: str) -> None:
        """Run one that kills itself there."""
        with self.log.open("ab") as log:
            done = subprocess.run(self._command(point), env=self._environment, stdout=log, stderr=log, timeout=300)
        assert done.returncode == -signal.SIGKILL, self.log.read_text()[-3_000:]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Run one until something is the case, and stop it."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(self._command("0"), env=self._environment, stdout=log, stderr=log)
        try:
            until(lambda: condition() or process.poll() is not None, 300, what)
            assert process.poll() is None, self.log.read_text()[-3_000:]
            process.terminate()
            # Where nothing was left to do it may not even have begun.
            assert process.wait(120) in (0, -signal.SIGTERM), self.log.read_text()[-3_000:]
        finally:
            process.kill()
            process.wait()

    def _command(self, point: str) -> list[str]:
        return [sys.executable, str(PROGRAM), str(self._status), point]


@pytest.mark.parametrize(("way", "point"), ALL if FULL else SOME)
def test_a_controller_that_is_killed_anywhere_is_replaced(
    settings: Settings, tmp_path: Path, way: str, point: str
) -> None:
    status, _, steps, champion = WAYS[way]
    home = tmp_path / "controlled"
    registry = line_registry(home / "registry")
    _begin(registry, in_bake=way == "rolled back")
    status_file = tmp_path / "status"
    status_file.write_text(status)
    controllers = Controllers(settings, home, status_file)
    controllers.until_killed(point)
    _check(registry, steps)
    controllers.until(
        lambda: (
            registry.rollout("line") is None
            and registry.champions() == {"line": champion}
            and _published(settings) >= set(enumerate(steps, 1))
        ),
        "the rollout is over and announced",
    )
    rollout = _check(registry, steps)
    assert [step.action for step in rollout.steps] == steps
    assert registry.champions() == {"line": champion}
    assert _published(settings) == set(enumerate(steps, 1))
    changes = [change.version for change in registry.history("line") if change.alias == "champion"]
    assert changes == {"promoted": ["v1", "v2"], "rolled back": ["v1", "v2", "v1"], "refused": ["v1"]}[way]
    assert set(registry.rollouts("line").barred) == (set() if way == "promoted" else {"v2"})


def _begin(registry: Registry, *, in_bake: bool) -> None:
    policy = RolloutPolicy(ramp=(5,), bake=0.0)
    now = datetime.now(UTC)
    change_rollouts(
        registry,
        "line",
        lambda found: machine.start(found, champion="v1", challenger="v2", policy=policy, now=now, **WHO),
    )
    if in_bake:
        change_rollouts(registry, "line", lambda found: machine.promote(found, now=now, **WHO))
        reconcile(registry, "line", now)


def _check(registry: Registry, steps: list[str]) -> Any:
    """What holds at any moment: a whole record, whose steps are the first ones of those that are to come."""
    rollout = registry.rollouts("line").current
    assert rollout is not None
    assert [step.action for step in rollout.steps] == steps[: len(rollout.steps)]
    assert [step.number for step in rollout.steps] == list(range(1, len(rollout.steps) + 1))
    assert registry.champions()["line"] in (rollout.champion, rollout.challenger)
    return rollout


def _published(settings: Settings) -> set[tuple[int, str]]:
    events = [decode_model_event(record.value() or b"") for record in read_to_end(settings, MODEL_EVENTS)]
    return {(event.step, event.action) for event in events if isinstance(event, RolloutChanged)}
