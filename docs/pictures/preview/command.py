"""Pictures of the dashboards without Kibana: `python -m docs.pictures.preview serving --out pictures`.

A documentation tool and not part of the product. It draws the sources of the dashboards; Kibana looks different.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inflight.commands.dashboards import hint_at_esql, load_dashboards
from inflight.errors import exit_for, exit_with, print_error

if TYPE_CHECKING:
    from monitoring.dashboards.source import Dashboard


def preview(
    boards: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BOARD]...", help="Such as serving or inflight-serving; all by default."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for the pictures.")] = Path("pictures"),
    since: Annotated[
        str | None, typer.Option(help="1h, now-1h or 2026-01-31T12:00:00Z (UTC); by default the range of each board.")
    ] = None,
    until: Annotated[str, typer.Option(help="Written like --since.")] = "now",
    scale: Annotated[float, typer.Option(min=0.25, max=4, help="Pixels for each unit of the drawing.")] = 1.5,
    svg: Annotated[bool, typer.Option("--svg", help="Also write each board as SVG.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 also if a panel has no results.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="A folder with your own sources; by default the dashboards of Inflight.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Draw the dashboards as PNG, with the documents of INFLIGHT_ELASTICSEARCH_URL. Needs no Kibana.

    Exit code 1 if Elasticsearch rejects a query; its panel shows the reason.
    """
    import json

    from rich.console import Console
    from rich.progress import track

    from docs.pictures.preview.draw import fetch, picture
    from inflight.settings import load_settings
    from machine_learning_engineering.core.timestamps import parse_time
    from monitoring.dashboards.lint import span
    from monitoring.elastic.client import connect

    now = datetime.now(UTC)
    chosen = _chosen(boards or [], folder)
    try:
        ends = parse_time(until, now)
        start = None if since is None else parse_time(since, now)
    except ValueError as error:
        raise exit_with(error) from None
    settings = load_settings()
    told: list[dict[str, Any]] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        with connect(settings) as client:
            console = Console(stderr=True)
            for board in track(chosen, "Drawing", console=console, transient=True, disable=not console.is_terminal):
                begins = start or ends - span(board.since)
                if begins >= ends:
                    raise ValueError(f"the time range ends before it begins: {begins} to {ends}")
                found = picture(board, fetch(client, board, begins, ends), begins, ends)
                file = out / f"{board.id.removeprefix('inflight-')}.png"
                file.write_bytes(found.png(scale))
                if svg:
                    file.with_suffix(".svg").write_text(found.svg, encoding="utf-8")
                told.append(
                    {"dashboard": board.id, "file": str(file), "without_results": found.empty, "failed": found.failed}
                )
    except Exception as error:
        raise exit_for(error, ValueError) from error
    if as_json:
        typer.echo(json.dumps({"pictures": told}))
    else:
        for one in told:
            typer.echo(one["file"])
            if one["without_results"]:
                typer.echo(f"no results: {one['dashboard']}: {', '.join(one['without_results'])}", err=True)
            for panel, reason in one["failed"].items():
                print_error(f"{one['dashboard']}/{panel}: {reason}")
        hint_at_esql(reason for one in told for reason in one["failed"].values())
    raise typer.Exit(1 if any(one["failed"] or (strict and one["without_results"]) for one in told) else 0)


def _chosen(boards: list[str], folder: Path | None) -> "list[Dashboard]":
    known = {one.id: one for one in load_dashboards(folder)}
    found = []
    for name in boards or list(known):
        one = known.get(name) or known.get(f"inflight-{name}")
        if one is None:
            raise exit_with(f"no dashboard {name}: there are {', '.join(known)}")
        found.append(one)
    return found
