"""One run from an empty broker to all figures."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from benchmarks import latency, scoring, throughput
from benchmarks.cases.catalog import CASES, LATENCY_CASES
from benchmarks.deployment import EvaluationError, deploy, fill
from benchmarks.latency import Latency
from benchmarks.machine import Machine, describe
from benchmarks.scoring import Scoring
from benchmarks.throughput import Run


@dataclass(frozen=True)
class Options:
    """What to measure."""

    messages: int
    runs: int
    cases: tuple[str, ...]
    stack: Literal["real", "embedded"]
    throughput: bool
    latency: bool
    rate: float
    requests: int


class Found(msgspec.Struct):
    """All figures of one run; `unmeasured` says why a case has none."""

    machine: Machine
    broker: str
    at: datetime
    messages: int
    throughput: list[Run] = []
    latency: list[Latency] = []
    scoring: list[Scoring] = []
    unmeasured: dict[str, str] = {}


def run(options: Options, report: Callable[[str], None]) -> Found:
    """Measure; `report` is told each step as it begins.

    Raises:
        EvaluationError: nothing can be measured here.
    """
    report(f"starting the {options.stack} broker and training diamonds")
    with deploy(options.stack) as deployment:
        found = Found(describe(deployment.cores), deployment.broker, datetime.now(UTC), options.messages)
        report("scoring alone")
        found.scoring = scoring.measure(deployment)
        if options.throughput:
            report(f"publishing {options.messages:,} requests")
            expected = fill(deployment, options.messages)
            for number in range(1, options.runs + 1):
                for name in options.cases:
                    if name in found.unmeasured:
                        continue
                    try:
                        done = throughput.measure(name, CASES[name], number, deployment, expected)
                    except EvaluationError as error:
                        found.unmeasured[name] = str(error)
                        report(f"round {number} {name}: {error}")
                        continue
                    found.throughput.append(done)
                    report(f"round {number} {name}: {done.rate:,.0f} a second, {done.answered:,} answered")
        if options.latency:
            for name in LATENCY_CASES:
                if name in options.cases or name not in CASES:
                    report(f"latency of {name} at {options.rate:.0f} requests a second")
                    found.latency.append(
                        latency.measure(
                            name, LATENCY_CASES[name], deployment, rate=options.rate, requests=options.requests
                        )
                    )
    return found
