"""`python -m benchmarks.indexing`: documents a second from the log topic into Elasticsearch, against bare loops.

In one run, on one broker and one Elasticsearch: the same backlog of logs, the same documents, each case as a process of
its own on one core, in alternating rounds. After each round the index is counted and deleted.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from benchmarks.cases.catalog import Case
from benchmarks.machine import Machine, describe

if TYPE_CHECKING:
    from benchmarks.indexing_stack import Stack

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


def _measure(name: str, number: int, stack: "Stack", expected: int) -> Indexed:
    """Run a case over the whole backlog into an empty index.

    Raises:
        EvaluationError: the case ends by itself, or stops before the end.
    """
    from benchmarks.deployment import EvaluationError, forget_group
    from benchmarks.subject import running
    from machine_learning_engineering.kafka.client import topic_name
    from monitoring.elastic import client as elastic
    from monitoring.runtime.groups import INDEXER

    group = topic_name(stack.settings, INDEXER)
    with elastic.connect(stack.settings) as client:
        for index in elastic.index_names(client, "inference-*"):
            elastic.request(client, "DELETE", f"/{index}")
        first: tuple[float, int, float] | None = None
        moved, seen = time.monotonic(), 0
        with running(CASES[name], stack, group) as subject:
            while seen < expected:
                time.sleep(POLL_SECONDS)
                subject.check()
                count, now = written(client), time.monotonic()
                if count > seen:
                    moved, seen = now, count
                    if first is None and count >= WARM_UP * expected:
                        first = (now, count, subject.cpu_seconds())
                elif now - moved > STALLED_SECONDS:
                    raise EvaluationError(f"{name} stopped after {seen} of {expected} documents")
            assert first is not None
            cpu, memory = subject.cpu_seconds() - first[2], subject.peak_rss_bytes()
        forget_group(stack.settings, group)
        elastic.request(client, "POST", "/inference-logs-*/_refresh")
        documents = elastic.request(client, "GET", "/inference-logs-*/_count")["count"]
    behind = expected - first[1]
    rate = behind / (moved - first[0]) if moved > first[0] else 0.0
    return Indexed(name, number, documents, expected, rate, cpu / max(1, behind), memory)


def written(client: Any) -> int:
    """Documents so far, by the node's own counter, which needs no refresh."""
    from monitoring.elastic import client as elastic

    path = "_all.primaries.indexing.index_total"
    answer = elastic.request(client, "GET", "/inference-logs-*/_stats/indexing", filter_path=path)
    found = answer.get("_all", {}).get("primaries", {}).get("indexing", {})
    return int(found.get("index_total", 0))


def measure(messages: int, rounds: int, cases: list[str], report: Callable[[str], None]) -> Found:
    """Measure; `report` is told each step.

    Raises:
        EvaluationError: nothing can be measured here.
    """
    from benchmarks.indexing_stack import deploy, fill

    report("starting Kafka and Elasticsearch")
    with deploy() as stack:
        found = Found(describe(stack.cores), stack.versions, datetime.now(UTC), messages, 0.0)
        report(f"publishing {messages:,} logs")
        found.bytes_per_log = fill(stack, messages)
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
    """Measure the indexer against bare bulk loops: same broker, same Elasticsearch, same documents, one core each."""
    from benchmarks.deployment import EvaluationError

    if unknown := set(only or ()) - set(CASES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(CASES)}", param_hint="--only")
    cases = [name for name in CASES if not only or name in only]
    try:
        found = measure(messages, rounds, cases, report=lambda line: typer.echo(line, err=True))
    except EvaluationError as error:
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
