"""The gateway under a load generator that is not ours, through a real broker and a real worker.

`python -m benchmarks.gateway` starts Kafka, one worker and one gateway, and measures in one run: reviews at a steady
rate, diamonds at rising rates until the gateway no longer follows, what HTTP adds to the bare stream at the same rate,
and the memory of the gateway over many requests. The load is an open loop: a late answer delays no request, and the
latency counts from the moment a request was due.
"""

import itertools
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import psutil
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import load_tool
from benchmarks.deployment import ONE_THREAD, EvaluationError
from benchmarks.latency import Latency
from benchmarks.load_tool import Load
from benchmarks.machine import Machine, describe, share_cores
from benchmarks.whole_deployment import Sender
from inflight.demo.processes import Process
from inflight.settings import Settings
from inflight.stack.kafka import KAFKA_VERSION, KafkaNode
from inflight.stack.maven import missing_tools
from inflight.stack.process import StackError, free_port
from inflight.supervisor.specs import READY
from machine_learning_engineering.datasets import DatasetUnavailable
from machine_learning_engineering.kafka.client import create_topics
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import Trials
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.training.quick import train
from model.diamonds.model import Diamonds
from model.reviews.model import Reviews

CURVE = (250.0, 500.0, 1_000.0, 1_500.0, 2_000.0, 3_000.0, 4_000.0)
BODIES = 1_000
WARM_UP = 500
SATURATED_MS = 1_000.0
MEGABYTE = 1e6

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_show_locals=False)


class Overhead(msgspec.Struct, frozen=True):
    """Milliseconds at one rate: from send to result on the stream, over HTTP, and what is between them."""

    rate: float
    stream_p50: float
    stream_p99: float
    http_p50: float
    http_p99: float

    @property
    def p50(self) -> float:
        return self.http_p50 - self.stream_p50

    @property
    def p99(self) -> float:
        return self.http_p99 - self.stream_p99


class Memory(msgspec.Struct, frozen=True):
    """Resident memory of the gateway in MB: `rss` by the share of the requests that it had answered, and the most."""

    load: Load
    rss: list[float]
    peak: float


class Found(msgspec.Struct, frozen=True):
    """All figures of a run."""

    machine: Machine
    broker: str
    tool: str
    reviews: Load | None
    curve: list[Load]
    overhead: Overhead | None
    memory: Memory | None


class Plan(NamedTuple):
    """What to measure: rates in requests a second; 0 leaves a part out."""

    review_rate: float
    rates: Sequence[float]
    seconds: float
    overhead_rate: float
    memory_requests: int
    memory_rate: float


class Bench:
    """The running processes, and how they are measured. As a context manager it ends them."""

    def __init__(self, models: Sequence[type[MLEModel]], report: Callable[[str], None]) -> None:
        self._models = models
        self._report = report
        self._cleanup = ExitStack()
        self.tool = load_tool.find_tool()

    def __enter__(self) -> "Bench":
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _start(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="inflight-bench-", ignore_cleanup_errors=True)
        self._home = home = Path(self._cleanup.enter_context(folder))
        node = KafkaNode(home / "kafka")
        self._cleanup.callback(node.stop)
        node.start()
        self._settings = Settings(_env_file=None, home=home, kafka_bootstrap_servers=node.bootstrap_servers)  # type: ignore[call-arg]
        create_topics(self._settings)
        for model in self._models:
            self._report(f"training {model.name}")
            trained = train(model, self._settings)
            Trials(Registry(self._settings.registry_dir), self._settings.trials_dir).pass_(model.name, trained.version)
        self._port = free_port()
        environment = ONE_THREAD | {
            "INFLIGHT_ENV_FILE": "",
            "INFLIGHT_HOME": str(home),
            "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": node.bootstrap_servers,
            "INFLIGHT_GATEWAY_PORT": str(self._port),
        }
        self._worker = Process("worker", "worker", home / "processes", environment, READY["worker"])
        self._gateway = Process("gateway", "gateway", home / "processes", environment, READY["gateway"])
        for process in (self._worker, self._gateway):
            self._cleanup.callback(process.stop)
            process.launch()
        for process in (self._worker, self._gateway):
            process.wait_ready()

    def load(self, model: type[MLEModel], path: str, rate: float, requests: int) -> Load:
        """Requests over HTTP."""
        self._report(f"{model.name}: {requests:,} requests at {rate:g}/s")
        url = f"http://127.0.0.1:{self._port}{path}"
        name = f"{model.name} at {rate:g}/s"
        return load_tool.run(self.tool, name, url, self._bodies(model), rate=rate, requests=requests)

    def stream(self, rate: float, requests: int) -> Latency:
        """The same diamonds as Kafka's own clients send them."""
        self._report(f"diamonds on the bare stream: {requests:,} requests at {rate:g}/s")
        sender = Sender(self._settings)
        try:
            sender.steadily("warm-up", rate, WARM_UP)
            return sender.steadily("stream", rate, requests)
        finally:
            sender.arrivals.stop()

    def memory(self, rate: float, requests: int, samples: int = 10) -> Memory:
        """The gateway's memory while it answers so many requests."""
        assert self._gateway.process_id is not None
        process = psutil.Process(self._gateway.process_id.pid)
        seen: list[float] = []
        ended = threading.Event()
        interval = requests / rate / 100

        def watch() -> None:
            while not ended.wait(interval):
                seen.append(process.memory_info().rss / MEGABYTE)

        thread = threading.Thread(target=watch, name="memory")
        thread.start()
        try:
            load = self.load(Diamonds, "/v1/diamonds/value", rate, requests)
        finally:
            ended.set()
            thread.join()
        seen.append(process.memory_info().rss / MEGABYTE)
        chosen = [seen[min(len(seen) - 1, len(seen) * number // samples)] for number in range(1, samples + 1)]
        return Memory(load, chosen, max(seen))

    def _bodies(self, model: type[MLEModel]) -> Path:
        file = self._home / f"{model.name}.jsonl"
        if not file.exists():
            rows: Iterable[Mapping[str, Any]] = itertools.islice(
                model.example_requests(self._settings.data_dir), BODIES
            )
            file.write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
        return file


def climb(rates: Iterable[float], measure: Callable[[float], Load]) -> list[Load]:
    """Measure at rising rates, and end with the first that is not followed: 5 % fewer answers, or a second late."""
    found: list[Load] = []
    for rate in rates:
        found.append(measure(rate))
        if is_saturated(found[-1]):
            break
    return found


def is_saturated(load: Load) -> bool:
    """Whether the gateway did not follow: its rate, its answers or its latency say so."""
    return load.rate < 0.95 * load.wanted_rate or load.answered < 0.95 * load.requests or load.p99 > SATURATED_MS


def measure(plan: Plan, report: Callable[[str], None]) -> Found:
    """Start everything, measure, and stop it.

    Raises:
        EvaluationError, StackError, DatasetUnavailable: it is not possible here; the message names the fix.
    """
    machine = describe(share_cores())
    if missing := missing_tools():
        raise EvaluationError(f"{' and '.join(missing)} is not on PATH: install Java 17 and Maven")
    models: list[type[MLEModel]] = [Diamonds, *([Reviews] if plan.review_rate else [])]
    with Bench(models, report) as running:

        def diamonds(rate: float) -> Load:
            return running.load(Diamonds, "/v1/diamonds/value", rate, int(rate * plan.seconds))

        running.load(Diamonds, "/v1/diamonds/value", 200, WARM_UP)
        reviews = overhead = None
        if rate := plan.review_rate:
            running.load(Reviews, "/v1/reviews/sentiment", rate, WARM_UP)
            reviews = running.load(Reviews, "/v1/reviews/sentiment", rate, int(rate * plan.seconds))
        if rate := plan.overhead_rate:
            bare, http = running.stream(rate, int(rate * plan.seconds)), diamonds(rate)
            overhead = Overhead(rate, 1_000 * bare.p50, 1_000 * bare.p99, http.p50, http.p99)
        curve = climb(plan.rates, diamonds)
        memory = running.memory(plan.memory_rate, plan.memory_requests) if plan.memory_requests else None
        broker, tool = f"Apache Kafka {KAFKA_VERSION}", load_tool.version(running.tool)
        return Found(machine, broker, tool, reviews, curve, overhead, memory)


def show(found: Found, console: Console) -> None:
    """Tables for people."""
    machine = found.machine
    console.print(
        f"{found.broker}, {found.tool}, {machine.cores} cores ({machine.processor}), Python {machine.python}, "
        f"load {machine.load:.1f} at the start",
        highlight=False,
    )
    table = Table(title="From the moment a request is due to its whole response, in ms; an open loop")
    for heading in ("load", "requests", "answered/s", "p50", "p90", "p99", "p99.9", "max", "not 200"):
        table.add_column(heading, justify="left" if heading in ("load", "not 200") else "right", no_wrap=True)
    for load in [*([found.reviews] if found.reviews else []), *found.curve]:
        times = (f"{value:.1f}" for value in (load.p50, load.p90, load.p99, load.p999, load.maximum))
        others = {**{code: n for code, n in load.statuses.items() if code != "200"}, **load.errors}
        told = ", ".join(f"{n:,} {what}" for what, n in others.items())
        table.add_row(load.name, f"{load.requests:,}", f"{load.rate:,.0f}", *times, told)
    console.print(table)
    if one := found.overhead:
        console.print(
            f"HTTP over the bare stream at {one.rate:g}/s, in ms: "
            f"p50 {one.http_p50:.1f} - {one.stream_p50:.1f} = {one.p50:.1f}, "
            f"p99 {one.http_p99:.1f} - {one.stream_p99:.1f} = {one.p99:.1f}",
            highlight=False,
        )
    if found.memory:
        tenths = ", ".join(f"{value:.0f}" for value in found.memory.rss)
        count = found.memory.load.requests
        console.print(f"memory of the gateway over {count:,} requests, each tenth: {tenths} MB", highlight=False)


@app.command(epilog="Example: python -m benchmarks.gateway --seconds 10 --memory-requests 0")
def bench(
    review_rate: Annotated[float, typer.Option(min=0, help="Reviews a second; 0 leaves them out.")] = 100,
    curve: Annotated[str, typer.Option(help="Diamonds a second, rising.")] = ",".join(f"{rate:g}" for rate in CURVE),
    seconds: Annotated[float, typer.Option(min=1, help="Length of each load.")] = 60,
    overhead_rate: Annotated[float, typer.Option(min=0, help="Rate for the overhead; 0 leaves it out.")] = 500,
    memory_requests: Annotated[int, typer.Option(min=0, help="Requests while memory is watched; 0: none.")] = 500_000,
    memory_rate: Annotated[float, typer.Option(min=1, help="Their rate.")] = 1_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the gateway: latency, saturation, overhead over the bare stream, and memory."""
    rates = [float(one) for one in curve.split(",") if one]
    plan = Plan(review_rate, rates, seconds, overhead_rate, memory_requests, memory_rate)
    try:
        found = measure(plan, lambda line: typer.echo(line, err=True))
    except (EvaluationError, StackError, DatasetUnavailable) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        show(found, Console(width=160))


if __name__ == "__main__":
    app()
