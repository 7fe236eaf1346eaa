"""Draws an overview: the essentials fit into 80 columns and 24 lines; larger terminals show more."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from monitoring.top.overview import Latency, Overview
from monitoring.top.warnings import BATCH_SECONDS, BEHIND_RECORDS, FAILED_RATIO, SLOW_SECONDS

_BARS = "▁▂▃▄▅▆▇█"
GOOD, WARN, BAD, DIM = "green", "yellow", "bold red", "bright_black"


def render(found: Overview, history: Sequence[float], width: int, height: int) -> RenderableType:
    """The view, of at most `height` lines of `width` columns.

    Args:
        history: requests per second of the last polls, the newest last.
    """
    # Two lines at the top, two empty ones, two headings, and the cursor's line.
    room = height - 7
    warnings = _warnings(found, most=max(1, min(8, room // 4)))
    rest = max(2, room - len(warnings))
    models = max(1, min(len(found.models) or 1, rest // 2))
    below = max(1, rest - models)
    parts: list[RenderableType] = [_head(found, history, width), _processes(found, width), *warnings, Text()]
    parts += [_models(found, models), Text(), _below(found, below, width)]
    return Group(*parts)


def _head(found: Overview, history: Sequence[float], width: int) -> Text:
    line = Text.assemble(("inflight top", "bold"), f"  {found.at.astimezone():%H:%M:%S}  ")
    rate = "-" if found.per_second is None else _number(found.per_second)
    line.append(f"{rate} requests/s ", style="bold cyan")
    line.append(sparkline(history, max(0, width - len(line) - 2)), style="cyan")
    return _fit(line)


def _processes(found: Overview, width: int) -> Text:
    """A mark for each kind of process, and how to start a missing one."""
    kinds: dict[str, list[str]] = {}
    for one in found.processes:
        kinds.setdefault(one.kind, []).append(one.problem)
    line = Text()
    for kind, answers in kinds.items():
        up = sum(not problem for problem in answers)
        style = GOOD if up == len(answers) else WARN if up else (BAD if kind == "worker" else DIM)
        count = f" {up}/{len(answers)}" if len(answers) > 1 else ""
        line.append("● " if up else "○ ", style=style).append(f"{kind}{count} ", style="" if up else DIM)
    if any(all(answers) for answers in kinds.values()):
        line.append("→ inflight NAME", style=DIM)
    return _fit(line)


def _warnings(found: Overview, most: int) -> list[Text]:
    if not found.warnings:
        down = [kind for kind in dict.fromkeys(one.kind for one in found.processes) if not _up(found, kind)]
        if down:
            return [_fit(Text(f"no warnings; not running: {', '.join(down)}", style=WARN))]
        return [Text("no warnings", style=GOOD)]
    shown = found.warnings if len(found.warnings) <= most else found.warnings[: most - 1]
    lines = [_fit(Text(f"! {warning}", style=BAD)) for warning in shown]
    if len(shown) < len(found.warnings):
        lines.append(_fit(Text(f"! and {len(found.warnings) - len(shown)} more: inflight top --once", style=BAD)))
    return lines


def _models(found: Overview, most: int) -> RenderableType:
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True, header_style="bold")
    table.add_column("model", no_wrap=True, ratio=1, overflow="ellipsis")
    table.add_column("version", no_wrap=True, max_width=9, overflow="ellipsis")
    for name in ("req/s", "failed", "queue p50/p99", "score p50/p99", "total p50/p99"):
        table.add_column(name, justify="right", no_wrap=True)
    if not found.models:
        hint = "models need the exporter" if not _up(found, "exporter") else "no requests yet"
        return Group(table, Text(hint, style=DIM))
    shown = found.models if len(found.models) <= most else found.models[: max(0, most - 1)]
    for model in shown:
        asked = model.completed_per_second + model.failed_per_second
        failed = model.failed_per_second / asked if asked else 0.0
        table.add_row(
            Text(model.name),
            Text(",".join(model.versions) or "-"),
            _number(asked),
            Text(f"{failed:.1%}" if asked else "-", style=BAD if failed > FAILED_RATIO else WARN if failed else ""),
            _latency(model.queue),
            _latency(model.score),
            _latency(model.total, limit=SLOW_SECONDS),
        )
    if len(shown) < len(found.models):
        table.add_row(Text(f"and {len(found.models) - len(shown)} more", style=DIM))
    return table


def _below(found: Overview, most: int, width: int) -> RenderableType:
    """On the left lag; on the right workers, indexer, alerts, dead letters, drift and quality."""
    left = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    left.add_column("lag", no_wrap=True, overflow="ellipsis", max_width=24)
    left.add_column("records", justify="right", no_wrap=True)
    lags = sorted((lag for lag in found.lags if lag.in_use), key=lambda lag: -lag.records)[:most]
    for lag in lags:
        growing = (lag.change_per_second or 0.0) > 0
        style = BAD if growing and lag.records > BEHIND_RECORDS else WARN if lag.records > BEHIND_RECORDS else ""
        mark = "↑" if growing else "↓" if (lag.change_per_second or 0.0) < 0 else " "
        name = f"{lag.group.removeprefix('inflight-')}: {lag.topic.removeprefix('prediction-')}"
        left.add_row(Text(name), Text(f"{_number(lag.records)} {mark}", style=style))
    if not lags:
        left.add_row(Text("lag needs the exporter" if not _up(found, "exporter") else "-", style=DIM), "")
    right = Table(box=None, show_header=False, padding=(0, 1, 0, 0), expand=True)
    right.add_column(style="bold", no_wrap=True, min_width=7)
    right.add_column(no_wrap=True, overflow="ellipsis")
    for name, text in _facts(found)[: most + 1]:
        right.add_row(name, text)
    both = Table.grid(padding=(0, 2), expand=True)
    both.add_column(width=33)
    both.add_column(ratio=1)
    both.add_row(left, right)
    return both


def _facts(found: Overview) -> list[tuple[str, Text]]:
    facts: list[tuple[str, Text]] = []
    if (worker := found.worker) is not None:
        batch = "-" if worker.batch_records is None else _number(worker.batch_records)
        waits = Text(f"{worker.partitions:.0f} partitions, {batch}/batch, oldest ")
        waits.append(
            _seconds(worker.oldest_batch_seconds), style=BAD if worker.oldest_batch_seconds > BATCH_SECONDS else ""
        )
        facts.append(("worker", waits))
    if (indexer := found.indexer) is not None:
        text = Text(f"{_number(indexer.documents_per_second)}/s")
        if indexer.lag_records is not None:
            text.append(f", {_number(indexer.lag_records)} behind")
        if indexer.retries_per_second:
            text.append(f", {_number(indexer.retries_per_second)} retries/s", style=WARN)
        facts.append(("indexer", text))
    for alert in found.alerts:
        style = BAD if alert.state == "firing" else WARN
        facts += [("alert", Text(f"{alert.name} {alert.state}", style=style))]
    if found.dead_letters:
        total = sum(letters.total for letters in found.dead_letters)
        rate = sum(letters.per_second for letters in found.dead_letters)
        text = Text(f"{_number(total)} letters, {_number(rate)}/s", style=WARN if rate else "")
        facts.append(("dead", text.append(f", most {found.dead_letters[0].reason}")))
    for one in sorted(found.drift, key=lambda one: not one.drifted):
        what = f"{len(one.drifted)} fields, most {one.field}" if one.drifted else "none"
        text = Text(f"{one.model} {one.version}: {what}", style=WARN if one.drifted else "")
        facts.append(("drift", text.append(f", PSI {one.psi:.2f}")))
    for measured in found.quality:
        reference = "" if measured.reference is None else f", in training {measured.reference:.3g}"
        text = Text(f"{measured.model} {measured.version}: {measured.metric} {measured.value:.3g}{reference}")
        facts.append(("quality", text))
    return facts


def _up(found: Overview, kind: str) -> bool:
    return any(one.kind == kind and not one.problem for one in found.processes)


def _latency(found: Latency, limit: float | None = None) -> Text:
    if found.p50 is None or found.p99 is None:
        return Text("-", style=DIM)
    slow = limit is not None and found.p99 > limit
    return Text.assemble(f"{_seconds(found.p50)}/", (_seconds(found.p99), BAD if slow else ""))


def _seconds(value: float) -> str:
    """A duration, at most six characters."""
    if value < 0.0995:
        return f"{value * 1000:.1f}ms"
    return f"{value * 1000:.0f}ms" if value < 1 else f"{value:.1f}s" if value < 100 else f"{value:,.0f}s"


def _number(value: float) -> str:
    """A number, at most six characters."""
    if 0 < value < 10:
        return f"{value:.1f}"
    if value < 10_000:
        return f"{value:,.0f}"
    for unit in ("k", "M", "G"):
        value /= 1_000
        if value < 999.5:
            return f"{value:.1f}{unit}" if value < 99.95 else f"{value:.0f}{unit}"
    return f"{value:.0f}G"


def sparkline(values: Sequence[float], width: int) -> str:
    """The last values as bars, relative to the highest."""
    shown = values[-width:] if width > 0 else []
    highest = max(shown, default=0.0)
    return "".join(_BARS[round(value / highest * (len(_BARS) - 1))] if highest else _BARS[0] for value in shown)


def _fit(line: Text) -> Text:
    line.no_wrap = True
    line.overflow = "ellipsis"
    return line
