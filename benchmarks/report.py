"""The figures of a run as a JSON object or as tables."""

import sys
from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.cases.catalog import CASES, LATENCY_CASES, REFERENCE
from benchmarks.run import Found
from benchmarks.throughput import Run, ratios

MEGABYTE = 1e6


def to_json(found: Found) -> str:
    """Every figure of every round, and the ratios to the reference."""
    plain = msgspec.to_builtins(found)
    plain["ratios"] = ratios(found.throughput, REFERENCE)
    return msgspec.json.encode(plain).decode()


def print_report(found: Found, console: Console | None = None) -> None:
    """Tables for people, on stdout."""
    # Eighty columns, what a pipe gets, are too few.
    console = console or Console(width=None if sys.stdout.isatty() else 140)
    machine = found.machine
    placed = "one core for the case, the others for the rest" if machine.pinned else "cores not pinned"
    console.print(
        f"{found.at:%Y-%m-%d %H:%M} UTC, {found.broker}, {machine.cores} cores ({machine.processor}; {placed}), "
        f"{machine.system}, Python {machine.python}, load {machine.load:.1f} at the start",
        highlight=False,
    )
    console.print(", ".join(f"{name} {version}" for name, version in machine.versions.items()), highlight=False)
    if found.throughput:
        console.print(throughput_table(found))
    if found.latency:
        console.print(latency_table(found))
    console.print(scoring_table(found))
    for name, why in found.unmeasured.items():
        console.print(f"not measured: {name}: {why}", highlight=False)


def throughput_table(found: Found) -> Table:
    """A line a case: medians over the rounds, and the range of the rates."""
    table = Table(title=f"A backlog of {found.messages:,} requests, one core for each consumer")
    for heading in (
        "case",
        "records/s",
        "min - max",
        f"x {REFERENCE}",
        "CPU us/record",
        "RSS MB",
        "peak MB",
        "answers",
    ):
        table.add_column(heading, justify="left" if heading in ("case", "answers") else "right", no_wrap=True)
    compared = ratios(found.throughput, REFERENCE)
    for name in CASES:
        of_case = [run for run in found.throughput if run.case == name]
        if not of_case:
            continue
        rates = [run.rate for run in of_case]
        table.add_row(
            CASES[name].what,
            f"{median(rates):,.0f}",
            f"{min(rates):,.0f} - {max(rates):,.0f}",
            f"{median(compared[name]):.2f}" if name in compared else "-",
            f"{median(run.cpu_seconds_per_record for run in of_case) * 1e6:.1f}",
            f"{median(run.rss_bytes for run in of_case) / MEGABYTE:.0f}",
            f"{max(run.peak_rss_bytes for run in of_case) / MEGABYTE:.0f}",
            answers(of_case),
        )
    return table


def answers(of_case: list[Run]) -> str:
    """What became of the requests, in words: the worst of the rounds."""
    said = []
    if slow := [run.answered for run in of_case if run.cut_off]:
        said.append(f"slow: stopped after {min(slow):,}")
    if lost := max(run.lost for run in of_case):
        said.append(f"{lost:,} LOST")
    if repeats := max(run.repeats for run in of_case):
        said.append(f"{repeats:,} repeated")
    if differing := max(run.differing for run in of_case):
        said.append(f"{differing:,} DIFFER")
    return ", ".join(said) or "all, equal"


def latency_table(found: Found) -> Table:
    """A line a case, in milliseconds."""
    first = found.latency[0]
    table = Table(title=f"Send to answer at {first.rate:.0f} requests/s, {first.requests:,} requests, milliseconds")
    for heading in ("case", "p50", "p90", "p99", "p99.9", "max", "unanswered"):
        table.add_column(heading, justify="left" if heading == "case" else "right", no_wrap=True)
    for row in found.latency:
        quantiles = (row.p50, row.p90, row.p99, row.p999, row.maximum)
        table.add_row(
            LATENCY_CASES[row.case].what, *(f"{seconds * 1000:.1f}" for seconds in quantiles), f"{row.unanswered:,}"
        )
    return table


def scoring_table(found: Found) -> Table:
    """A line a model and size of batch."""
    table = Table(title="The models alone, rows/s; on DataFrames: the same pipeline as most people write it")
    for heading in ("model", "batch", "predict", "from JSON", "from JSON, on DataFrames", "x"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in found.scoring:
        rates = (row.predicted, row.decoded_and_predicted, row.frames)
        ratio = row.decoded_and_predicted / row.frames
        table.add_row(row.model, f"{row.batch:,}", *(f"{rate:,.0f}" for rate in rates), f"{ratio:.1f}")
    return table
