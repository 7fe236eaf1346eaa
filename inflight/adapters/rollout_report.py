"""What `inflight rollout show` says of a rollout: its record, and the verdict of this moment."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from inflight.rendering import render_line, render_time
from inflight.settings import Settings
from inflight.stack.probes import anything_listens
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.rollout.machine import stage_limit, stage_seconds
from machine_learning_engineering.rollout.record import Bar, Rollout, Unbarring
from machine_learning_engineering.rollout.verdict import Check, Verdict

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from monitoring.rollout.ports import EvidenceSource

WIDTH = 80
WATCH_SECONDS = 2.0
READ_SECONDS = 30.0
"""Longest time that evidence is read for one look."""
_MARKS = {"pass": "ok", "fail": "FAIL", "waiting": "waits"}


class Report(Struct, frozen=True):
    """One model. `seconds` is the age of the stage without pauses; `problem` says why there is no verdict."""

    model: str
    rollout: Rollout | None
    barred: dict[str, Bar]
    unbarred: tuple[Unbarring, ...]
    seconds: float = 0.0
    verdict: Verdict | None = None
    problem: str = ""


class Watch:
    """Looks at rollouts, again and again if asked; evidence that was read once is not read again.

    Args:
        settings: Of the stream.
        registry: Has the records.
        models: By name; all that have a record if empty.
    """

    def __init__(self, settings: Settings, registry: Registry, models: list[str]) -> None:
        self._settings = settings
        self._registry = registry
        self._models = models
        self._sources: dict[tuple[str, datetime], EvidenceSource] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for source in self._sources.values():
            source.close()

    def look(self, *, evidence: bool = True) -> list[Report]:
        """A report of each model.

        Args:
            evidence: Whether evidence is read and judged.

        Raises:
            RegistryError: A record is unreadable.
        """
        reports = []
        for model in self._models or self._registry.models():
            rollouts = self._registry.rollouts(model)
            rollout, now = rollouts.current, datetime.now(UTC)
            if rollout is None and not rollouts.barred and not self._models:
                continue
            seconds = stage_seconds(rollout, now) if rollout is not None else 0.0
            report = Report(model, rollout, rollouts.barred, rollouts.unbarred, seconds)
            if evidence and rollout is not None and rollout.is_open:
                report = self._judged(report, rollout)
            reports.append(report)
        return reports

    def run(self) -> None:
        """Show the reports every few seconds, until Ctrl-C."""
        from rich.console import Console, Group
        from rich.live import Live

        with Live(console=Console(), auto_refresh=False) as live:
            while True:
                parts = [part for report in self.look() for part in _parts(report)]
                live.update(Group(*(parts or ["No rollout yet."])), refresh=True)
                try:
                    time.sleep(WATCH_SECONDS)
                except KeyboardInterrupt:
                    return

    def print(self, reports: list[Report], console: "Console | None" = None) -> None:
        """Print reports, 80 columns wide where there is no terminal."""
        from rich.console import Console

        console = console or Console(width=None if Console().is_terminal else WIDTH, highlight=False)
        for report in reports:
            for part in _parts(report):
                console.print(part)

    def _judged(self, report: Report, rollout: Rollout) -> Report:
        """The report with the verdict of this moment, or why there is none."""
        from msgspec.structs import replace

        servers = self._settings.kafka_bootstrap_servers
        if not anything_listens(servers):
            return replace(report, problem=f"there is no broker at {servers} to read the evidence from")

        from confluent_kafka import KafkaException

        from inflight.adapters.rollout_evidence import judge, open_evidence
        from machine_learning_engineering.kafka.broker_check import NoBrokersLeftError

        key = (rollout.rollout_id, rollout.stage_at)
        try:
            if key not in self._sources:
                self._sources[key] = open_evidence(self._settings)(rollout)
            source, began = self._sources[key], time.monotonic()
            while (source.poll() or not source.is_caught_up) and time.monotonic() - began < READ_SECONDS:
                pass
        except (KafkaException, NoBrokersLeftError) as error:
            return replace(report, problem=f"the evidence can't be read: {error}")
        if not source.is_caught_up:
            return replace(report, problem=f"the evidence was not read within {READ_SECONDS:g} s")
        now = datetime.now(UTC)
        seconds = max(0.0, (now - rollout.stage_at).total_seconds())
        return replace(report, verdict=judge(source.evidence(now), rollout.policy, rollout.stage, seconds))


def headline(rollout: Rollout, seconds: float | None = None) -> str:
    """A rollout in one line."""
    who = f"{rollout.model}: {rollout.challenger} in place of {rollout.champion}"
    if not rollout.is_open:
        step = rollout.steps[-1]
        return render_line(f"{who}: {rollout.outcome.replace('_', ' ')} at {render_time(step.at)} ({step.reason})", 400)
    share = f" at {rollout.percent} %" if rollout.stage == "canary" else ""
    age = "" if seconds is None else f" for {_duration(seconds)} of {_duration(stage_limit(rollout))}"
    return f"{who}: {rollout.stage}{share}{age}{', paused' if rollout.paused else ''}"


def _parts(report: Report) -> "list[RenderableType]":
    from rich.text import Text

    # As Text: rich would interpret markup in what others have written.
    parts: list[RenderableType] = []
    rollout = report.rollout
    if rollout is None:
        parts.append(Text(f"{report.model}: no rollout"))
    else:
        parts.append(Text(headline(rollout, report.seconds)))
        if report.verdict is not None:
            parts.append(Text(f"verdict: {report.verdict.status}: {render_line(report.verdict.reason, 400)}"))
            parts.append(_checks(report.verdict.checks))
        elif report.problem:
            parts.append(Text(f"no verdict: {render_line(report.problem, 400)}"))
        parts.append(_steps(rollout))
    for version, bar in report.barred.items():
        parts.append(Text(f"barred: {version} since {render_time(bar.at)}: {render_line(bar.reason, 300)}"))
    parts += [
        Text(f"unbarred: {one.version} at {render_time(one.at)} by {render_line(f'{one.by}: {one.reason}', 300)}")
        for one in report.unbarred[-3:]
    ]
    return parts


def _checks(checks: tuple[Check, ...]) -> "RenderableType":
    rows = [(one.name, _MARKS[one.status], _number(one.value), _number(one.limit), one.detail) for one in checks]
    return _table([("check", False), ("", False), ("value", True), ("limit", True), ("", False)], rows)


def _steps(rollout: Rollout) -> "RenderableType":
    rows = [
        (str(one.number), render_time(one.at), one.action.replace("_", " "), f"{one.percent} %", one.by, one.reason)
        for one in rollout.steps
    ]
    return _table([("", True), ("time", False), ("step", False), ("keys", True), ("by", False), ("why", False)], rows)


def _table(headings: list[tuple[str, bool]], rows: Sequence[tuple[str, ...]]) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading, is_number in headings:
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for cells in rows:
        table.add_row(*(Text(render_line(cell, 300)) for cell in cells))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
