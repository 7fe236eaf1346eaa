"""Watches the stream while a console is open: nothing is read, and nothing kept, when nobody looks."""

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from machine_learning_engineering.settings import KernelSettings
from producers.gateway.console.memory import Memory
from producers.gateway.console.reader import Reader
from producers.gateway.console.sources import GroupLag, Lags, LagUnavailable

logger = logging.getLogger(__name__)

IDLE_SECONDS = 120.0
"""So long after the last question the watch ends, and forgets."""
LAG_SECONDS = 2.0
_CLOSE_SECONDS = 3.0


class LagReading(NamedTuple):
    """The last reading of the lag; `problem` is why there is no newer one."""

    groups: list[GroupLag]
    problem: str


class View(NamedTuple):
    """What a watch has seen. Times are in seconds since the epoch.

    `problem` is why nothing is read. `complete` tells whether everything from before the start is, and `since` from
    when on all predictions are known. `hidden` are topics that are not there, or that the gateway may not read.
    """

    memory: Memory
    problem: str
    complete: bool
    since: float
    hidden: list[str]
    lag: LagReading


class Watching(Protocol):
    """See `Watch`."""

    def view(self) -> View:
        """What is known now. Begins the watch if it does not run."""


class Watch:
    """Reads the stream and the lag in threads, from the first question until nobody has asked for a while.

    Args:
        settings: of the deployment.
        lags: read every two seconds.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        settings: KernelSettings,
        lags: Lags,
        clock: Callable[[], float] = time.monotonic,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._settings = settings
        self._lags = lags
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._asked = 0.0
        self._session: _Session | None = None
        self._closed = False

    @property
    def active(self) -> bool:
        """Whether the stream is read now."""
        return self._session is not None

    def view(self) -> View:
        """See `Watching.view`. Does not block."""
        with self._lock:
            self._asked = self._clock()
            if self._session is None and not self._closed:
                self._session = _Session(self._settings, self._lags, self._is_over)
            session = self._session
        if session is None:
            return View(Memory(), "the gateway is about to end", False, time.time(), [], LagReading([], ""))
        reader = session.reader
        return View(session.memory, reader.problem, reader.complete, reader.since, reader.hidden, session.lag)

    def close(self) -> None:
        """End the threads."""
        with self._lock:
            self._closed = True
            session, self._session = self._session, None
        if session is not None:
            session.close(_CLOSE_SECONDS)

    def _is_over(self, session: "_Session") -> bool:
        """Whether a session has to end; it is forgotten then."""
        with self._lock:
            if self._session is session and self._clock() - self._asked < self._idle_seconds:
                return False
            if self._session is session:
                self._session = None
            return True


class _Session:
    """One watch: from a first question to its end."""

    def __init__(self, settings: KernelSettings, lags: Lags, is_over: "Callable[[_Session], bool]") -> None:
        self.memory = Memory()
        self.lag = LagReading([], "the lag has not been read yet")
        self._lags = lags
        self._is_over = is_over
        self._stopping = threading.Event()
        self.reader = Reader(settings, self.memory)
        self._thread = threading.Thread(target=self._read_lag, name="inflight-gateway-lag", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> None:
        self._stopping.set()
        self.reader.close(timeout)
        self._thread.join(timeout)

    def _read_lag(self) -> None:
        try:
            while not self._is_over(self) and not self._stopping.is_set():
                try:
                    self.lag = LagReading(self._lags.read(), "")
                except LagUnavailable as error:
                    self.lag = LagReading(self.lag.groups, str(error))
                self._stopping.wait(LAG_SECONDS)
        except Exception:
            logger.exception("the console can't read the lag any more")
            self.lag = LagReading([], "a bug ended the reading of the lag: the service log of the gateway says more")
            # The reader still needs an end.
            while not self._is_over(self) and not self._stopping.is_set():
                self._stopping.wait(LAG_SECONDS)
        finally:
            self.reader.stop()
            self._lags.close()
