"""What the demo makes of a replay that was not what it was meant to be."""

from typing import Any, cast

import pytest

from inflight.demo import run as demo
from inflight.demo.run import DemoFailed, Options, Running, _follow
from inflight.settings import Settings
from producers.publisher import Errors
from producers.replay import ReplayReport


class Caught:
    """Stands for what asks for the lag, which is not reached."""

    def published(self, _progress: object) -> None: ...


def follow(monkeypatch: pytest.MonkeyPatch, report: ReplayReport) -> None:
    given: list[Any] = []

    def replay(*_: Any, stop_signal: Any, **__: Any) -> ReplayReport:
        given.append(stop_signal)
        return report

    monkeypatch.setattr(demo, "replay", replay)
    running = Running(Settings(_env_file=None), cast(Any, None), [])  # type: ignore[call-arg]
    try:
        _follow(running, Options(limit=1), cast(Any, Caught()))
    finally:
        assert given
        assert running.replayed is report


def test_an_interrupted_replay_ends_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not counted as a run that went well."""
    with pytest.raises(KeyboardInterrupt):
        follow(monkeypatch, ReplayReport(accepted=5, failed=0, indeterminate=0, seconds=1.0, interrupted=True))


def test_requests_that_were_refused_or_are_in_doubt_fail_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason."""
    errors = {"MessageSizeTooLarge": Errors(2, "too large")}
    report = ReplayReport(accepted=5, failed=2, indeterminate=1, seconds=1.0, errors=errors)
    with pytest.raises(DemoFailed, match=r"2 requests failed, 1 are indeterminate: 2 x MessageSizeTooLarge: too large"):
        follow(monkeypatch, report)
