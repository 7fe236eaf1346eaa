"""`inflight trace`: the path of one request through all topics."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inflight.errors import FAILED, exit_with, exits, require_broker
from inflight.rendering import print_json, render_line, render_time

if TYPE_CHECKING:
    from monitoring.trace.path import Path, Step

_REPEATS = {
    ("request", "equal"): "duplicate: same model and features as the first",
    ("request", "different"): "CONFLICT: other model or features than the first",
    ("result", "equal"): "repeat of the first result",
    ("result", "different"): "CONFLICT: differs from the first result",
    ("log", "equal"): "repeat of the first log record",
    ("log", "different"): "CONFLICT: differs from the first log record",
    ("shadow", "equal"): "repeat of the first shadow",
    ("shadow", "different"): "differs from the first shadow, or the other role of its rollout",
    ("label", "equal"): "same label as the first",
    ("label", "different"): "corrects the first label",
}


app = typer.Typer()


@app.command(
    epilog="Examples: [bold]inflight trace order-1[/bold], "
    "[bold]inflight trace order-1 --since 1h --values[/bold], [bold]inflight trace order-1 --json[/bold]. "
    "Exit code 1 if there is no trace of the request, 2 if the broker is unreachable. "
    "It reads all topics: --since makes that faster."
)
def trace(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The id of the request.")],
    since: Annotated[
        str | None, typer.Option(help="Skip records before this time: 15m, 2h, 1d ago, or 2026-01-31T12:00:00Z.")
    ] = None,
    values: Annotated[
        bool, typer.Option("--values", help="Show features, prediction and label, not only their sizes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the path of one request: request, results, log records, dead letters, labels, document, and what is missing.

    Records are in the order of their timestamps (UTC), with topic, partition and offset.
    """
    from rich.console import Console

    from inflight.settings import load_settings
    from machine_learning_engineering.core.timestamps import parse_time
    from machine_learning_engineering.registry.sources import RegistrySources
    from monitoring.runtime.sources import Sources
    from monitoring.trace.readers import trace as read_path

    require_broker()
    with Console(stderr=True).status("Reading") as status, exits(ValueError):
        settings = load_settings()
        path = read_path(
            settings,
            request_id,
            values=values,
            since=None if since is None else parse_time(since),
            sources=Sources(RegistrySources(settings).declarations()),
            progress=lambda source, count: status.update(f"Reading {source}" + (f": {count:,}" if count else "")),
        )
    if as_json:
        print_json(path)
    else:
        _print(path)
    if not path.found:
        unasked = "".join(f" ({reason})" for reason in path.missing)
        raise exit_with(f"no topic and no index has a request {request_id!r}{unasked}", FAILED)


def _print(path: "Path") -> None:
    rows = [(_time(step.at), step.stage.replace("_", " "), str(step.position), _text(step)) for step in path.steps]
    rows += [("", "document", f"{one.index}/{one.id}", _fields(one.details)) for one in path.documents]
    # Ids are foreign text: as the rest, they must not steer the terminal.
    cells = [tuple(map(_line, row)) for row in rows]
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(3)]
    for row in cells:
        typer.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, [*widths, 0], strict=True)).rstrip())
    for stage, count in path.omitted.items():
        typer.echo(f"... and {count:,} more: {stage.replace('_', ' ')}")
    for reason in path.missing if path.found else ():
        typer.echo(f"missing: {_line(reason)}")


def _text(step: "Step") -> str:
    mark = _REPEATS[step.stage, step.repeat] if step.repeat else ""
    origin = f"of {step.origin}" if step.origin and step.stage == "dead_letter" else ""
    hint = f"inflight dlq show {step.details['address']}" if step.stage == "dead_letter" else ""
    shown = {name: value for name, value in step.details.items() if name != "address"}
    return "; ".join(part for part in (mark, _fields(shown), origin, hint) if part)


def _fields(details: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {_value(value)}" for name, value in details.items() if value is not None
    )


def _value(value: Any) -> str:
    import msgspec

    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode(errors="replace")


def _time(at: datetime) -> str:
    return render_time(at, "milliseconds")


def _line(text: str) -> str:
    return render_line(text, 2_000)
