"""Running the demo: start, train, replay, wait until everything is answered and indexed, then count."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, Protocol

from inflight.demo.archive import DemoArchive
from inflight.demo.bad_records import DIAMOND, bad_records
from inflight.demo.callers import NotAnswered, post_diamonds
from inflight.demo.processes import Deployment
from inflight.rendering import render_metrics
from inflight.settings import Settings
from inflight.stack.process import usable_port
from inflight.stack.stack import Endpoints, start_stack
from inflight.stack.status import with_endpoints
from machine_learning_engineering.events.topics import LOGS, REQUESTS
from machine_learning_engineering.kafka.client import create_topics
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import Trials
from machine_learning_engineering.storage.settings import WITHOUT_SHARED
from machine_learning_engineering.training.quick import train
from model.catalog import available
from monitoring.audit.audit import Audit
from monitoring.audit.readers import run_audit
from monitoring.exporter.lag import LagReader
from monitoring.runtime.groups import ARCHIVE, INDEXER, WORKER
from producers.replay import Progress, ReplayReport, replay
from producers.request_builder import Record
from producers.sources import Request
from producers.stop_signal import stop_on_signals

MODELS = ("diamonds", "titanic")
# Intervals in diamonds, so that passengers and bad records are in the same batches as diamonds.
PASSENGER_EVERY = 60
BAD_EVERY = 1_900
HTTP_REQUESTS = 1_000
STALLED_SECONDS = 60.0


class DemoFailed(RuntimeError):
    """The demo did not finish; the message names the fix."""


@dataclass(frozen=True)
class Options:
    """Options of a run."""

    stack: Literal["embedded", "real"] = "embedded"
    workers: int = 2
    rate: float | None = None
    limit: int | None = None
    gateway_port: int = 0
    """Where the gateway listens, if nobody else does; 0 is any free port."""


class Report(Protocol):
    """Receives the progress of the demo."""

    def step(self, text: str) -> None:
        """A step starts."""

    def count(self, *, published: int, answered: int, indexed: int) -> None:
        """The numbers of records changed."""


@dataclass
class Running:
    """A running deployment, with its replay report and audit."""

    settings: Settings
    endpoints: Endpoints
    deployment: Deployment
    prefix: str = ""
    """Of the request ids."""
    audit: Audit | None = None
    over_http: Audit | None = None
    """Of the requests that came over HTTP alone."""
    archived: int | None = None
    """Requests in the archive; None without one."""
    replayed: ReplayReport | None = None
    seconds: dict[str, float] = field(default_factory=dict)


@contextlib.contextmanager
def run_demo(base: Settings, options: Options, report: Report) -> Iterator[Running]:
    """Run the demo. Inside the `with` block everything still runs and the audit is done; at the end everything stops.

    Raises:
        DemoFailed: it stalled, or `inflight run` exited.
        StackError: a node or process did not start.
    """
    home = (base.home / "demo").absolute()
    with contextlib.ExitStack() as cleanup:
        report.step(f"Starting the {options.stack} stack")
        started = time.monotonic()
        stack = cleanup.enter_context(start_stack(options.stack, home, fresh=True))
        settings = with_endpoints(base.moved_to(home), stack.endpoints)
        create_topics(settings)
        seconds = {"stack": time.monotonic() - started}
        started = time.monotonic()
        for name in MODELS:
            report.step(f"Training {name}")
            trained = train(available()[name], settings)
            registry = Registry(settings.registry_dir)
            Trials(registry, settings.trials_dir).pass_(name, trained.version)
            report.step(f"Trained {name} {trained.version}: " + render_metrics(trained.metrics))
        seconds["training"] = time.monotonic() - started
        report.step(f"inflight run --workers {options.workers}: workers, gateway, indexer, exporter and archive")
        archive = DemoArchive(home)
        # Without this process's secrets and file of settings: the stack asks for none.
        without = {"INFLIGHT_KAFKA_OPTIONS": "{}", "INFLIGHT_ELASTICSEARCH_API_KEY": "", "INFLIGHT_ENV_FILE": ""}
        environment = stack.endpoints.environment | archive.environment | {"INFLIGHT_HOME": str(home)}
        environment |= without | WITHOUT_SHARED
        gateway_port = usable_port(options.gateway_port)
        deployment = Deployment(home / "processes", environment, options.workers, gateway_port)
        running = Running(settings, stack.endpoints, deployment, seconds=seconds)
        started = time.monotonic()
        cleanup.callback(deployment.stop, grace=120.0)
        deployment.start()
        running.seconds["start"] = time.monotonic() - started
        report.step("Replaying diamonds and passengers, with bad records among them")
        started = time.monotonic()
        with contextlib.closing(LagReader(settings)) as reader:
            groups = [INDEXER, ARCHIVE] if archive.is_installed else [INDEXER]
            lag = _Lag(reader, report, groups)
            _follow(running, options, lag)
            running.seconds["stream"] = time.monotonic() - started
            report.step(f"Posting {HTTP_REQUESTS:,} diamonds to the gateway, http://127.0.0.1:{gateway_port}")
            started = time.monotonic()
            _post(running, lag)
            running.seconds["http"] = time.monotonic() - started
        report.step("Counting from the topics, the index and the archive")
        started = time.monotonic()
        running.audit = run_audit(settings)
        running.over_http = run_audit(settings, f"{running.prefix}-http-")
        running.archived = archive.count()
        running.seconds["count"] = time.monotonic() - started
        yield running
        report.step("Stopping")


def requests(options: Options, settings: Settings, prefix: str) -> Iterator[Request | Record]:
    """All diamonds and passengers with the bad records among them, and one id three times, once with other features."""
    passengers = available()["titanic"].example_requests(settings.data_dir)
    bad = iter(bad_records(prefix))
    for number, diamond in enumerate(available()["diamonds"].example_requests(settings.data_dir)):
        if options.limit is not None and number >= options.limit:
            break
        yield Request(diamond, "diamonds")
        if number % PASSENGER_EVERY == 0:
            yield from (Request(passenger, "titanic") for passenger in islice(passengers, 1))
        if number % BAD_EVERY == 0:
            yield from (Record(record.value, record.key) for record in islice(bad, 1))
    yield from (Request(passenger, "titanic") for passenger in passengers)
    yield from (Record(record.value, record.key) for record in bad)
    for carat in (0.23, 0.23, 0.5):
        yield Request(DIAMOND | {"carat": carat}, "diamonds", f"{prefix}-three-times")


def _follow(running: Running, options: Options, lag: "_Lag") -> None:
    settings = running.settings
    running.prefix = prefix = f"demo-{time.time_ns() // 1_000_000:x}"
    source = requests(options, settings, prefix)
    with stop_on_signals() as stop_signal:
        running.replayed = replayed = replay(
            settings,
            source,
            rate=options.rate,
            on_progress=lag.published,
            id_prefix=prefix,
            stop_signal=stop_signal,
        )
    if replayed.interrupted:
        raise KeyboardInterrupt
    if replayed.failed or replayed.indeterminate:
        causes = "; ".join(f"{seen.records:,} x {kind}: {seen.first}" for kind, seen in replayed.errors.items())
        raise DemoFailed(f"{replayed.failed} requests failed, {replayed.indeterminate} are indeterminate: {causes}")
    _drain(running, lag)


def _post(running: Running, lag: "_Lag") -> None:
    """Post the first diamonds of the dataset to the gateway."""
    settings = running.settings
    rows = list(islice(available()["diamonds"].example_requests(settings.data_dir), HTTP_REQUESTS))
    try:
        post_diamonds(running.deployment.gateway_port, rows, f"{running.prefix}-http-", lag.add)
    except NotAnswered as error:
        raise DemoFailed(f"{error}; see {running.deployment.log_path}") from None
    _drain(running, lag)


def _drain(running: Running, lag: "_Lag") -> None:
    """Wait until everything is scored and indexed."""
    waiting, moved = lag.read(), time.monotonic()
    while waiting != (0, 0):
        if not running.deployment.is_alive():
            raise DemoFailed(f"inflight run exited.\n{running.deployment.log_tail()}")
        before, waiting = waiting, lag.read()
        if waiting != before:
            moved = time.monotonic()
        elif time.monotonic() - moved > STALLED_SECONDS:
            wait = f"{waiting[0]} requests and {waiting[1]} log records are waiting"
            log = running.deployment.log_path
            raise DemoFailed(f"no progress for {STALLED_SECONDS:.0f} s: {wait}; see {log}")
        time.sleep(0.5)


class _Lag:
    """Requests and log records that wait, by committed offsets; updates the report."""

    def __init__(self, reader: LagReader, report: Report, groups: Sequence[str]) -> None:
        self._reader = reader
        self._groups = groups
        self._report = report
        self._published = 0
        self._read_at = 0.0

    def published(self, progress: Progress) -> None:
        """Update the number of accepted requests. The broker is asked once a second at most."""
        self._published = progress.accepted
        self._count()

    def add(self, accepted: int) -> None:
        """Add further accepted requests."""
        self._published += accepted
        self._count()

    def _count(self) -> None:
        if time.monotonic() - self._read_at > 1.0:
            self.read()

    def read(self) -> tuple[int, int]:
        """Requests that wait for the workers, and log records that wait for the indexer or the archive."""
        behind = self._reader.read()
        self._read_at = time.monotonic()
        waiting = behind[WORKER, REQUESTS], max(behind[group, LOGS] for group in self._groups)
        answered = max(0, self._published - waiting[0])
        indexed = max(0, answered - waiting[1])
        self._report.count(published=self._published, answered=answered, indexed=indexed)
        return waiting
