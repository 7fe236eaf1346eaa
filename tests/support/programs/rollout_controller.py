"""The rollout controller over a real registry and a real broker, with verdicts that a file says, killed where asked.

Arguments: the file with the status (`pass`, `fail`, `waiting`; empty: no evidence), and the point: `N` kills this
process with SIGKILL at the Nth write or publication from its start on, before it is done; `N+` after it; `0` never.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine_learning_engineering.core.files as files
from inflight.settings import Settings
from machine_learning_engineering.observability.logging import configure_logging
from machine_learning_engineering.rollout.evidence import Evidence
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Stage
from machine_learning_engineering.rollout.verdict import Verdict
from monitoring.rollout import announcing, process
from tests.support.scripted_rollouts import ScriptedSource


class KillPoint:
    """Counts what is done, and ends the process at one of them."""

    def __init__(self, point: str) -> None:
        self._left = int(point.rstrip("+"))
        self._after = point.endswith("+")

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            done = call(*arguments, **named)
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return called


def main(status_file: Path, point: str) -> None:
    killing = KillPoint(point)
    files.replace = killing.around(files.replace)
    announcing.send = killing.around(announcing.send)  # type: ignore[attr-defined]

    def judge(evidence: Evidence, policy: RolloutPolicy, stage: Stage, seconds: float) -> Verdict:
        status: Any = status_file.read_text().strip()
        return Verdict(status, f"{status} in {stage}")

    settings = Settings()
    configure_logging("rollout-controller", settings)
    process.run(settings, ScriptedSource, judge)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
