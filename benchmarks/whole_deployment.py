"""The whole deployment on one machine: latency of requests while every process runs, and what each costs the others.

`python -m benchmarks.whole_deployment` starts Kafka, Elasticsearch and all processes, sends requests at a steady rate,
and prints latencies: of the first requests after the start, of later ones, and again each time a process has been
stopped. One clock; from send to the moment a consumer has the result.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import psutil
import typer
from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from benchmarks.deployment import ONE_THREAD, request_bodies
from benchmarks.latency import ANSWER_SECONDS, Arrivals, Latency, summary
from benchmarks.machine import describe, share_cores
from inflight.demo.processes import Process
from inflight.settings import Settings
from inflight.stack.process import Node
from inflight.stack.stack import start_stack
from inflight.stack.status import with_endpoints
from inflight.supervisor.specs import READY
from machine_learning_engineering.events.topics import REQUESTS
from machine_learning_engineering.kafka.client import create_topics, producer_options, topic_name
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import Trials
from machine_learning_engineering.training.quick import train
from model.diamonds.model import Diamonds
from producers.rate_limiter import RateLimiter

FIRST = 1_000
"""Requests right after the start."""
# In the order in which they are stopped, behind the first phase.
COMMANDS = ("features follow", "drift-monitor", "label-joiner", "exporter", "indexer")

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_show_locals=False)


class Phase(msgspec.Struct, frozen=True):
    """Latency in one state of the deployment, and the processor time of each process, in cores."""

    latency: Latency
    cores: dict[str, float]


class Sender:
    """Sends diamonds and notes when each was sent. Never the same request id twice."""

    def __init__(self, settings: Settings) -> None:
        # Not idempotent: librdkafka's spins while five records of a partition are under way, and would measure itself.
        self._producer = Producer({**producer_options(settings), "enable.idempotence": False, "linger.ms": 0})
        self._topic = topic_name(settings, REQUESTS)
        self._bodies: Iterator[tuple[bytes, bytes]] = request_bodies(10**9)
        self.arrivals = Arrivals(settings)
        self.arrivals.start()

    def steadily(self, name: str, rate: float, count: int) -> Latency:
        """Send `count` requests, `rate` a second, and wait for the answers."""
        sent: dict[bytes, float] = {}
        pace = RateLimiter(rate)
        for key, value in islice(self._bodies, count):
            pace.wait()
            self._send(sent, key, value)
        self._wait(sent)
        return self._summary(name, rate, sent)

    def one_at_a_time(self, name: str, count: int) -> Latency:
        """Send each request when the one before is answered."""
        sent: dict[bytes, float] = {}
        for key, value in islice(self._bodies, count):
            self._send(sent, key, value)
            self.arrivals.wait_for(key, ANSWER_SECONDS)
        return self._summary(name, 0.0, sent)

    def _send(self, sent: dict[bytes, float], key: bytes, value: bytes) -> None:
        sent[key] = time.monotonic()
        self._producer.produce(self._topic, value, key)
        self._producer.poll(0)

    def _wait(self, keys: Iterable[bytes]) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        for key in keys:
            self.arrivals.wait_for(key, deadline - time.monotonic())

    def _summary(self, name: str, rate: float, sent: dict[bytes, float]) -> Latency:
        at = self.arrivals.at
        seconds = [at[key] - moment for key, moment in sent.items() if key in at]
        return summary(name, rate, seconds, unanswered=len(sent) - len(seconds))


def run(kind: Literal["real", "embedded"], rate: float, requests: int) -> list[Phase]:
    """Measure; everything is stopped at the end.

    Raises:
        StackError: a node or a process does not start.
    """
    with ExitStack() as cleanup:
        folder = tempfile.TemporaryDirectory(prefix="inflight-bench-", ignore_cleanup_errors=True)
        home = Path(cleanup.enter_context(folder))
        # Elasticsearch runs as another user.
        home.chmod(0o755)
        stack = cleanup.enter_context(start_stack(kind, home, fresh=True))
        settings = with_endpoints(Settings(_env_file=None, home=home), stack.endpoints)  # type: ignore[call-arg]
        create_topics(settings)
        trained = train(Diamonds, settings)
        Trials(Registry(settings.registry_dir), settings.trials_dir).pass_("diamonds", trained.version)
        environment = stack.endpoints.environment | ONE_THREAD | {"INFLIGHT_HOME": str(home), "INFLIGHT_ENV_FILE": ""}
        worker = Process("worker", "worker", home / "processes", environment, READY["worker"])
        others = [Process(one.split()[0], one, home / "processes", environment) for one in COMMANDS]
        for process in (worker, *others):
            cleanup.callback(process.stop)
            process.launch()
        for process in (worker, *others):
            process.wait_ready()
        sender = Sender(settings)
        cleanup.callback(sender.arrivals.stop)
        return list(_phases(sender, [*stack.nodes, worker], others, rate, requests))


def _phases(
    sender: Sender, staying: Sequence[Node], others: Sequence[Process], rate: float, requests: int
) -> Iterator[Phase]:
    everything = [*staying, *others]
    yield _measured(everything, partial(sender.steadily, f"first {FIRST:,} after the start", rate, FIRST))
    # Java compiles what is hot for about a minute.
    yield _measured(everything, partial(sender.steadily, "the minute after", rate, round(60 * rate)))
    yield _measured(everything, partial(sender.steadily, "all processes, warm", rate, requests))
    yield _measured(everything, partial(sender.one_at_a_time, "one request at a time", FIRST))
    for process in others:
        process.stop()
        everything.remove(process)
        yield _measured(everything, partial(sender.steadily, f"then without {process.name}", rate, requests))


def _measured(nodes: Sequence[Node], send: Callable[[], Latency]) -> Phase:
    before, started = {node.name: _processor_seconds(node) for node in nodes}, time.monotonic()
    latency = send()
    elapsed = time.monotonic() - started
    return Phase(latency, {node.name: (_processor_seconds(node) - before[node.name]) / elapsed for node in nodes})


def _processor_seconds(node: Node) -> float:
    """User and system time so far of a node and of the processes that it started."""
    if node.process_id is None:
        return 0.0
    process = psutil.Process(node.process_id.pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def _table(phases: Sequence[Phase]) -> Table:
    """A line a phase: milliseconds, and the cores that each process keeps busy."""
    names = list(phases[0].cores)
    table = Table(title="From send to result, in ms; and the cores that each process keeps busy")
    for heading in ("phase", "requests", "p50", "p90", "p99", "max", *names):
        table.add_column(heading, justify="left" if heading == "phase" else "right", no_wrap=True)
    for phase in phases:
        found = phase.latency
        figures = (f"{1000 * value:.1f}" for value in (found.p50, found.p90, found.p99, found.maximum))
        cores = (f"{phase.cores[name]:.2f}" if name in phase.cores else "" for name in names)
        table.add_row(found.case, f"{found.requests:,}", *figures, *cores)
    return table


@app.command(epilog="Example: python -m benchmarks.whole_deployment --stack embedded --rate 100")
def bench(
    stack: Annotated[Literal["real", "embedded"], typer.Option(help="Kafka and Elasticsearch, or embedded.")] = "real",
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = 200,
    requests: Annotated[int, typer.Option(min=100, help="Requests of each phase.")] = 5_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure latency while every process of the deployment runs here, and again without one after another."""
    found = run(stack, rate, requests)
    machine = describe(share_cores())
    if as_json:
        typer.echo(msgspec.json.encode({"machine": machine, "stack": stack, "phases": found}))
        return
    console = Console(width=200)
    console.print(f"{stack} stack, {rate:g} requests/s, {machine.cores} cores ({machine.processor})", highlight=False)
    console.print(_table(found))


if __name__ == "__main__":
    app()
