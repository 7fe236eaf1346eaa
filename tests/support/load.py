"""Requests that are published in the background."""

import threading
from collections.abc import Iterable

from inflight.settings import Settings
from producers.replay import Progress, ReplayReport, replay
from producers.request_builder import Source
from producers.stop_signal import StopSignal
from tests.support.waiting import until


class Load(threading.Thread):
    """A replay in the background. `accepted` counts while it runs; `report` waits for its end."""

    def __init__(self, settings: Settings, requests: Iterable[Source], rate: float | None, prefix: str) -> None:
        super().__init__(name="load", daemon=True)
        self._settings, self._requests, self._rate, self._prefix = settings, requests, rate, prefix
        self._stop_signal = StopSignal()
        self._outcome: ReplayReport | BaseException | None = None
        self.accepted = 0

    def run(self) -> None:
        try:
            self._outcome = replay(
                self._settings,
                self._requests,
                model="diamonds",
                rate=self._rate,
                id_prefix=self._prefix,
                trace=True,
                keep_ids=True,
                on_progress=self._progress,
                stop_signal=self._stop_signal,
            )
        except BaseException as error:
            self._outcome = error

    def _progress(self, progress: Progress) -> None:
        self.accepted = progress.accepted

    def reaches(self, count: int, seconds: float = 300.0) -> None:
        """Wait until so many requests are accepted."""
        until(lambda: self.accepted >= count or not self.is_alive(), seconds, f"{count} requests are accepted")
        assert self.accepted >= count, f"the load ended at {self.accepted}: {self._outcome}"

    def stop(self) -> None:
        """Publish no more; what is under way is waited for in `report`."""
        self._stop_signal.requested = True

    def report(self, seconds: float = 600.0) -> ReplayReport:
        """The account of the whole load."""
        self.join(seconds)
        cause = getattr(self._outcome, "__cause__", None)
        assert isinstance(self._outcome, ReplayReport), f"the load did not end well: {self._outcome!r}, {cause!r}"
        return self._outcome
