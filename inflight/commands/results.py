"""`inflight results`: predictions and failures, in a terminal."""

from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import FAILED, exits, require_broker
from inflight.rendering import print_json, print_table, render_time

if TYPE_CHECKING:
    from inflight.settings import Settings
    from machine_learning_engineering.events.schemas import Result


app = typer.Typer()


@app.command(
    epilog="Examples: [bold]inflight results[/bold], [bold]inflight results diamonds --failed[/bold], "
    "[bold]inflight results --id 7f3c --json[/bold]"
)
def results(
    model: Annotated[str | None, typer.Argument(help="Only results of this model.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only failures, with their reasons.")] = False,
    request_id: Annotated[
        list[str] | None, typer.Option("--id", help="Only the result of this request. Repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of results, the newest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show records of the results topic, the newest last. Exit code 1 if none matches.

    A request without a result may be a dead letter or still in progress: `inflight trace` shows which.
    """
    from inflight.settings import load_settings
    from monitoring.trace.results import newest_results

    settings = load_settings()
    with exits():
        require_broker()
        newest = newest_results(settings, limit, model=model, failed=failed, request_ids=set(request_id or ()))
    if as_json:
        print_json({"results": newest.results})
    else:
        _print(newest.results)
        matching = "" if newest.matching is None else f" of {newest.matching:,} that match"
        typer.echo(f"{len(newest.results):,} results{matching}", err=True)
    if newest.unreadable:
        typer.echo(f"{newest.unreadable:,} records on the topic are not results of Inflight", err=True)
    if not newest.results:
        typer.echo(_waiting(settings), err=True)
        raise typer.Exit(FAILED)


def _waiting(settings: "Settings") -> str:
    """Why there may be no result yet."""
    from contextlib import closing

    from machine_learning_engineering.events.topics import REQUESTS
    from machine_learning_engineering.kafka.client import end_offsets
    from monitoring.exporter.lag import LagReader
    from monitoring.runtime.groups import WORKER

    with exits(), closing(LagReader(settings)) as reader:
        if not end_offsets(settings, REQUESTS):
            return "the topics do not exist yet: `inflight up` creates them, and so does a worker"
        waiting = reader.read()[WORKER, REQUESTS]
    if waiting:
        return f"{waiting:,} requests wait for a worker: is `inflight worker` running? It may need a moment"
    return "workers have read all requests: if one has no result, `inflight trace ID` shows why"


def _print(results: "list[Result]") -> None:
    from machine_learning_engineering.events.schemas import PredictionCompleted

    rows = []
    for one in results:
        if isinstance(one, PredictionCompleted):
            outcome = bytes(one.prediction).decode(errors="replace")
        else:
            outcome = f"{one.error.type}: {one.error.message}"
        rows.append((render_time(one.completed_at), one.request_id, one.model, one.model_version or "-", outcome))
    print_table(("completed at", "request id", "model", "version", "prediction or reason"), rows)
