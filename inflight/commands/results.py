"""`inflight results`: what was answered, in a terminal."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from inflight.errors import exit_for

if TYPE_CHECKING:
    from machine_learning_engineering.events.schemas import Result


def register(app: typer.Typer) -> None:
    """Add the command of this file to `app`."""
    app.command(
        epilog="Examples: [bold]inflight results[/bold], [bold]inflight results diamonds --failed[/bold], "
        "[bold]inflight results --id 7f3c --json[/bold]"
    )(results)


def results(
    model: Annotated[str | None, typer.Argument(help="Only of this model.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only refusals and failures, with their reasons.")] = False,
    request_id: Annotated[list[str] | None, typer.Option("--id", help="Only of this request. Repeatable.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show answers of the results topic, the newest last. Ends with 1 if there is none that matches.

    A request that is on none of these lines may be a dead letter (`inflight dlq list`), or waits for a worker.
    """
    import heapq

    import msgspec

    from inflight.settings import load_settings
    from machine_learning_engineering.events.schemas import decode_result
    from machine_learning_engineering.events.topics import RESULTS
    from machine_learning_engineering.kafka.client import end_offsets, read_to_end

    settings = load_settings()
    wanted = set(request_id or ())
    # Without a condition the newest of each partition suffice.
    everything = model is None and not failed and not wanted
    count = unreadable = 0

    def matching() -> Any:
        nonlocal count, unreadable
        for record in read_to_end(settings, RESULTS, newest=limit if everything else None):
            try:
                found = decode_result(record.value() or b"")
            except (msgspec.MsgspecError, UnicodeDecodeError):
                unreadable += 1
                continue
            if model not in (None, found.model) or (wanted and found.request_id not in wanted):
                continue
            if failed and not hasattr(found, "error"):
                continue
            count += 1
            yield (found.completed_at, record.partition(), record.offset()), found

    try:
        # Told at once, and not after the reader's longer patience with a broker that is slow.
        end_offsets(settings, RESULTS, timeout=10)
        newest = [found for _, found in heapq.nlargest(limit, matching(), key=lambda one: one[0])][::-1]
    except Exception as error:
        raise exit_for(error) from error
    if as_json:
        typer.echo(msgspec.json.encode({"results": newest}).decode())
    else:
        _print(newest)
        of_all = "" if everything else f" of {count:,} that match"
        typer.echo(f"{len(newest):,} results{of_all}", err=True)
    if unreadable:
        typer.echo(f"{unreadable:,} records on the topic are not results of Inflight", err=True)
    if not newest:
        raise typer.Exit(1)


def _print(found: "list[Result]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from machine_learning_engineering.events.schemas import PredictionCompleted
    from producers.rendering import render_line

    if not found:
        return
    table = Table("completed at", "request id", "model", "version", "prediction or reason", box=None)
    for one in found:
        if isinstance(one, PredictionCompleted):
            answer = bytes(one.prediction).decode(errors="replace")
        else:
            answer = f"{one.error.type}: {one.error.message}"
        cells = [f"{one.completed_at:%Y-%m-%d %H:%M:%S}", one.request_id, one.model, one.model_version or "-", answer]
        # As Text, since these are foreign words that rich would read as markup.
        table.add_row(*(Text(render_line(cell)) for cell in cells))
    Console().print(table)
