"""`python -m benchmarks.indexing`: documents a second from the log topic into Elasticsearch, against bare loops.

In one run, on one broker and one search node: the same backlog of logs, the same documents, each case as a process of
its own on one core, in alternating rounds. After each round the index is counted and deleted.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import msgspec
import typer

from benchmarks.cases import Case
from benchmarks.machine import Cores, Machine, describe, pin, share_cores

CASES = {
    "indexer": Case("benchmarks.cases.indexer", "inflight indexer"),
    "bare": Case("benchmarks.cases.bare_bulk", "bare loop, one bulk request of bytes at a time"),
    "helpers": Case("benchmarks.cases.helpers_bulk", "bare loop with elasticsearch.helpers.bulk"),
}
REFERENCE = "bare"
WARM_UP = 0.2
"""Of the documents: they start the clock."""
POLL_SECONDS = 0.05
STALLED_SECONDS = 60.0
_ACCEPTED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class Indexed(msgspec.Struct, frozen=True):
    """One case in one round; `rate` in documents a second, behind the warm-up."""

    case: str
    round: int
    documents: int
    expected: int
    rate: float
    cpu_seconds_per_document: float
    peak_rss_bytes: int


class Found(msgspec.Struct):
    """All figures of one run."""

    machine: Machine
    nodes: str
    at: datetime
    messages: int
    bytes_per_log: float
    rounds: list[Indexed] = []

    def ratios(self) -> dict[str, list[float]]:
        """For each case its rate over that of the reference in the same round."""
        reference = {one.round: one.rate for one in self.rounds if one.case == REFERENCE}
        found: dict[str, list[float]] = {}
        for one in self.rounds:
            if reference.get(one.round):
                found.setdefault(one.case, []).append(one.rate / reference[one.round])
        return found


@dataclass(frozen=True)
class Stack:
    """A running broker and search node, and the settings of everything on them."""

    settings: Any
    cores: Cores
    versions: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find all this."""
        settings = self.settings
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("INFLIGHT_")},
            "INFLIGHT_HOME": str(settings.home),
            "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "INFLIGHT_ELASTICSEARCH_URL": settings.elasticsearch_url,
            "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
            "INFLIGHT_INDEXER_METRICS_PORT": "0",
        }


@contextlib.contextmanager
def _deploy() -> Iterator[Stack]:
    """Kafka and Elasticsearch with topics and templates; all of it is gone at the end.

    Raises:
        Unmeasurable: Java or Maven is missing, or a node does not start.
    """
    from benchmarks.deployment import Unmeasurable
    from inflight.stack.elasticsearch import ELASTICSEARCH_VERSION, ElasticsearchNode
    from inflight.stack.kafka import KAFKA_VERSION, KafkaNode
    from inflight.stack.maven import missing_tools
    from inflight.stack.process import StackError
    from machine_learning_engineering.kafka import create_topics
    from machine_learning_engineering.settings import Settings
    from monitoring import search

    if missing := missing_tools():
        raise Unmeasurable(f"{' and '.join(missing)} is not on PATH: install Java 17 and Maven")
    cores = share_cores()
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    with tempfile.TemporaryDirectory(prefix="inflight-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        # Elasticsearch runs as another user.
        home.chmod(0o755)
        broker, node = KafkaNode(home / "kafka"), ElasticsearchNode(home / "elasticsearch")
        try:
            pin(cores.rest)
            broker.start()
            node.start()
            settings = Settings(
                _env_file=None,  # type: ignore[call-arg]
                home=home,
                kafka_bootstrap_servers=broker.bootstrap_servers,
                elasticsearch_url=node.url,
                topic_prefix="bench-",
            )
            create_topics(settings)
            with search.connect(settings) as client:
                search.put_templates(client, settings)
            yield Stack(settings, cores, f"Apache Kafka {KAFKA_VERSION}, Elasticsearch {ELASTICSEARCH_VERSION}")
        except StackError as error:
            raise Unmeasurable(str(error)) from error
        finally:
            node.stop()
            broker.stop()
            pin(before)


def _fill(stack: Stack, count: int) -> float:
    """Publish so many logs, as a worker writes them; the mean of their bytes.

    Raises:
        Unmeasurable: a log could not be published.
    """
    from itertools import cycle, islice

    from confluent_kafka import Producer
    from msgspec import Raw

    from benchmarks.deployment import Unmeasurable
    from machine_learning_engineering.events import PredictionLogged, encode
    from machine_learning_engineering.kafka import producer_options, topic_name
    from machine_learning_engineering.topics import LOGS
    from model.diamonds import Diamonds

    producer = Producer({**producer_options(stack.settings), "linger.ms": 20})
    topic, written = topic_name(stack.settings, LOGS), 0
    rows = [Raw(encode(features)) for features in Diamonds.example_requests()]
    for number, features in enumerate(islice(cycle(rows), count)):
        event = PredictionLogged(
            request_id=f"diamond-{number:012d}",
            model="diamonds",
            outcome="completed",
            features=features,
            requested_at=_ACCEPTED,
            accepted_at=_ACCEPTED,
            completed_at=_ACCEPTED,
            queue_seconds=0.0012345,
            score_seconds=0.0067891,
            total_seconds=0.0080236,
            batch_size=512,
            partition=number % 4,
            offset=number // 4,
            model_version="20260101-120000-abcdef",
            prediction=Raw(b'{"price":%d.%d}' % (300 + number % 18_000, number % 1_000)),
            traceparent=f"00-{number:032x}-{number:016x}-01",
        )
        value = encode(event)
        written += len(value)
        while True:
            try:
                producer.produce(topic, value, event.request_id)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if missing := producer.flush(60):
        raise Unmeasurable(f"{missing} of {count} logs were not published")
    return written / count


def _measure(name: str, number: int, stack: Stack, expected: int) -> Indexed:
    """Run a case over the whole backlog into an empty index.

    Raises:
        Unmeasurable: the case ends by itself, or stops before the end.
    """
    from benchmarks.deployment import Unmeasurable, forget_group
    from benchmarks.subject import running
    from machine_learning_engineering.kafka import topic_name
    from monitoring import search
    from monitoring.groups import INDEXER

    group = topic_name(stack.settings, INDEXER)
    with search.connect(stack.settings) as client:
        for index in search.index_names(client, "inference-*"):
            search.call(client, "DELETE", f"/{index}")
        first: tuple[float, int, float] | None = None
        moved, seen = time.monotonic(), 0
        with running(CASES[name], stack, group) as subject:
            while seen < expected:
                time.sleep(POLL_SECONDS)
                subject.check()
                count, now = _written(client), time.monotonic()
                if count > seen:
                    moved, seen = now, count
                    if first is None and count >= WARM_UP * expected:
                        first = (now, count, subject.cpu_seconds())
                elif now - moved > STALLED_SECONDS:
                    raise Unmeasurable(f"{name} stopped after {seen} of {expected} documents")
            assert first is not None
            cpu, memory = subject.cpu_seconds() - first[2], subject.peak_rss_bytes()
        forget_group(stack.settings, group)
        search.call(client, "POST", "/inference-logs-*/_refresh")
        documents = search.call(client, "GET", "/inference-logs-*/_count")["count"]
    behind = expected - first[1]
    rate = behind / (moved - first[0]) if moved > first[0] else 0.0
    return Indexed(name, number, documents, expected, rate, cpu / max(1, behind), memory)


def _written(client: Any) -> int:
    """Documents so far, by the node's own counter, which needs no refresh."""
    from monitoring import search

    path = "_all.primaries.indexing.index_total"
    answer = search.call(client, "GET", "/inference-logs-*/_stats/indexing", filter_path=path)
    found = answer.get("_all", {}).get("primaries", {}).get("indexing", {})
    return int(found.get("index_total", 0))


def measure(messages: int, rounds: int, cases: list[str], report: Callable[[str], None]) -> Found:
    """Measure; `report` is told each step.

    Raises:
        Unmeasurable: nothing can be measured here.
    """
    report("starting Kafka and Elasticsearch")
    with _deploy() as stack:
        found = Found(describe(stack.cores), stack.versions, datetime.now(UTC), messages, 0.0)
        report(f"publishing {messages:,} logs")
        found.bytes_per_log = _fill(stack, messages)
        report("warming up: Elasticsearch's code is compiled while it runs")
        for _ in range(2):
            _measure(REFERENCE, 0, stack, messages)
        for number in range(1, rounds + 1):
            # Whoever is first in one round is last in the next.
            for name in cases if number % 2 else reversed(cases):
                one = _measure(name, number, stack, messages)
                found.rounds.append(one)
                report(f"round {number} {name}: {one.rate:,.0f} documents/s, {one.documents:,} in the index")
    return found


def print_report(found: Found) -> None:
    """A table for people, on stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=140)
    console.print(
        f"{found.at:%Y-%m-%d %H:%M} UTC, {found.nodes}, {found.machine.cores} cores, Python {found.machine.python}, "
        f"load {found.machine.load:.1f} at the start, logs of {found.bytes_per_log:.0f} bytes",
        highlight=False,
    )
    table = Table(title=f"A backlog of {found.messages:,} logs into Elasticsearch")
    for heading in ("case", "documents/s", "min - max", f"x {REFERENCE}", "CPU us/document", "peak MB", "documents"):
        table.add_column(heading, justify="left" if heading == "case" else "right", no_wrap=True)
    compared = found.ratios()
    for name, case in CASES.items():
        of_case = [one for one in found.rounds if one.case == name]
        if of_case:
            rates = [one.rate for one in of_case]
            table.add_row(
                case.what,
                f"{median(rates):,.0f}",
                f"{min(rates):,.0f} - {max(rates):,.0f}",
                f"{median(compared[name]):.2f}" if name in compared else "-",
                f"{median(one.cpu_seconds_per_document for one in of_case) * 1e6:.0f}",
                f"{max(one.peak_rss_bytes for one in of_case) / 1e6:.0f}",
                "all" if all(one.documents == one.expected for one in of_case) else "SOME ARE MISSING",
            )
    console.print(table)


app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command(epilog="Example: python -m benchmarks.indexing --messages 50000 --rounds 5 --only indexer --only bare")
def bench(
    messages: Annotated[int, typer.Option(min=1_000, help="Logs of the backlog.")] = 60_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; in each, every case runs once.")] = 4,
    only: Annotated[list[str] | None, typer.Option(help=f"This case only: {', '.join(CASES)}. Repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object, alone on the last line.")] = False,
) -> None:
    """Measure the indexer against bare bulk loops: same broker, same search node, same documents, one core each."""
    from benchmarks.deployment import Unmeasurable

    if unknown := set(only or ()) - set(CASES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(CASES)}", param_hint="--only")
    cases = [name for name in CASES if not only or name in only]
    try:
        found = measure(messages, rounds, cases, report=lambda line: typer.echo(line, err=True))
    except Unmeasurable as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None
    if as_json:
        plain = msgspec.to_builtins(found) | {"ratios": found.ratios()}
        typer.echo(msgspec.json.encode(plain).decode())
    else:
        print_report(found)
    if any(one.documents != one.expected for one in found.rounds):
        raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.indexing")
