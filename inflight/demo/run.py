"""Running the demo: start, train, replay, wait until everything is answered and indexed, then count."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from inflight.demo.bad_records import DIAMOND, bad_records
from inflight.demo.processes import Process, product
from inflight.stack.process import Node, StackError
from inflight.stack.stack import Endpoints, start_stack
from inflight.stack.status import with_endpoints
from machine_learning_engineering.kafka import create_topics
from machine_learning_engineering.settings import Settings
from machine_learning_engineering.training import train
from model import available
from monitoring.audit import Audit
from monitoring.evidence import take_audit
from monitoring.groups import INDEXER, WORKER
from monitoring.lag import LagReader
from producers.replay import Progress, Record, ReplayReport, replay
from producers.sources import Request

MODELS = ("diamonds", "titanic")
# Every so many diamonds a passenger, and every so many a bad record, so that they meet in the same batches.
PASSENGER_EVERY = 60
BAD_EVERY = 1_900
STALLED_SECONDS = 60.0


class DemoFailed(RuntimeError):
    """The demo could not be run to its end; the message says what to do."""


@dataclass(frozen=True)
class Options:
    """What to run."""

    stack: Literal["embedded", "real"] = "embedded"
    workers: int = 2
    rate: float | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Count:
    """How far the demo is, in records."""

    published: int
    answered: int
    indexed: int


@dataclass
class Report:
    """What is told while the demo runs: a line for each step, and counts."""

    step: Callable[[str], None] = lambda _: None
    count: Callable[[Count], None] = lambda _: None


@dataclass
class Running:
    """A running deployment with what it was fed and what came of it."""

    settings: Settings
    endpoints: Endpoints
    processes: list[Process]
    audit: Audit | None = None
    replayed: ReplayReport | None = None
    seconds: dict[str, float] = field(default_factory=dict)


@contextlib.contextmanager
def run_demo(base: Settings, options: Options, report: Report) -> Iterator[Running]:
    """Run the demo; inside of the `with` everything is up, with its count taken; at the end it is all stopped.

    Raises:
        DemoFailed: it came to a halt.
        StackError: a node or process did not start.
    """
    home = (base.home / "demo").absolute()
    with contextlib.ExitStack() as cleanup:
        report.step(f"Starting the {options.stack} stack")
        started = time.monotonic()
        stack = cleanup.enter_context(start_stack(options.stack, home, fresh=True))
        settings = with_endpoints(base.model_copy(update={"home": home}), stack.endpoints)
        create_topics(settings)
        running = Running(settings, stack.endpoints, [])
        running.seconds["stack"] = time.monotonic() - started
        started = time.monotonic()
        for name in MODELS:
            report.step(f"Training {name}")
            trained = train(available()[name], settings)
            report.step(f"Trained {name} {trained.version}: " + _metrics(trained.metrics))
        running.seconds["training"] = time.monotonic() - started
        report.step(f"Starting {options.workers} workers, the indexer and the exporter")
        environment = stack.endpoints.environment | {"INFLIGHT_HOME": str(home)}
        running.processes = product(home / "processes", environment, options.workers)
        for process in running.processes:
            cleanup.callback(process.stop)
            process.launch()
        for process in running.processes:
            process.wait_ready()
        report.step("Replaying diamonds and passengers, with bad records among them")
        started = time.monotonic()
        _replay_and_wait(running, options, report)
        running.seconds["stream"] = time.monotonic() - started
        report.step("Counting from the topics and the index")
        running.audit = take_audit(settings)
        yield running
        report.step("Stopping")


def requests(options: Options, settings: Settings, prefix: str) -> Iterator[Request | Record]:
    """All diamonds and all passengers, the bad records among them, and one id three times, once with another body."""
    passengers = available()["titanic"].example_requests(settings.data_dir)
    bad = iter(bad_records(prefix))
    for number, diamond in enumerate(available()["diamonds"].example_requests(settings.data_dir)):
        if options.limit is not None and number >= options.limit:
            break
        yield Request(diamond, "diamonds")
        if number % PASSENGER_EVERY == 0:
            yield from (Request(passenger, "titanic") for passenger in _next(passengers))
        if number % BAD_EVERY == 0:
            yield from (Record(record.value, record.key) for record in _next(bad))
    yield from (Request(passenger, "titanic") for passenger in passengers)
    yield from (Record(record.value, record.key) for record in bad)
    for carat in (0.23, 0.23, 0.5):
        yield Request(DIAMOND | {"carat": carat}, "diamonds", f"{prefix}-three-times")


def _next(items: Iterator[Any]) -> Iterator[Any]:
    with contextlib.suppress(StopIteration):
        yield next(items)


def _replay_and_wait(running: Running, options: Options, report: Report) -> None:
    settings = running.settings
    lag = LagReader(settings)
    published, looked_at, state = 0, 0.0, (0, 0)

    def look(progress: Progress | None = None) -> tuple[int, int]:
        nonlocal published, looked_at, state
        if progress is not None:
            published = progress.accepted
        # Asking the broker costs it time, and the replay too.
        if progress is None or time.monotonic() - looked_at > 1.0:
            looked_at = time.monotonic()
            behind = lag.read()
            requests_behind, logs_behind = behind[WORKER, "prediction-requests"], behind[INDEXER, "prediction-logs"]
            state = (requests_behind, logs_behind)
        answered = max(0, published - state[0])
        report.count(Count(published, answered, max(0, answered - state[1])))
        return state

    prefix = f"demo-{time.time_ns() // 1_000_000:x}"
    running.replayed = replay(
        settings, requests(options, settings, prefix), rate=options.rate, on_progress=look, id_prefix=prefix
    )
    before, moved = look(), time.monotonic()
    while (now := look()) != (0, 0):
        for process in running.processes:
            if not process.is_alive():
                raise DemoFailed(f"{process.name} ended.\n{process.log_tail()}")
        if now != before:
            before, moved = now, time.monotonic()
        elif time.monotonic() - moved > STALLED_SECONDS:
            logs = ", ".join(str(process.log_path) for process in running.processes)
            raise DemoFailed(
                f"nothing moved for {STALLED_SECONDS:.0f} s: {now[0]} requests and {now[1]} logs wait; see {logs}"
            )
        time.sleep(0.2)


def _metrics(metrics: Any) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


__all__ = ["Count", "DemoFailed", "Node", "Options", "Report", "Running", "StackError", "run_demo"]
