"""`inflight dashboards`: check the Kibana dashboards, compile them and import them."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inflight.errors import FAILED, exit_for, exit_with, exits, print_error
from inflight.rendering import print_json, render_text

if TYPE_CHECKING:
    from monitoring.dashboards.lint import Problem, QueryCheck
    from monitoring.dashboards.source import Dashboard

app = typer.Typer(
    name="dashboards",
    no_args_is_help=True,
    help="Kibana dashboards as files: check, compile and import them.",
    epilog="Example: [bold]inflight dashboards apply[/bold]",
)
Folder = Annotated[
    Path | None, typer.Option(help="A folder with your own sources; by default the dashboards of Inflight.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command(
    epilog="Examples: [bold]inflight dashboards lint[/bold], [bold]inflight dashboards lint --elasticsearch[/bold]. "
    "Exit code 1 if there is a problem."
)
def lint(
    elasticsearch: Annotated[
        bool, typer.Option("--elasticsearch", help="Also run every query, on INFLIGHT_ELASTICSEARCH_URL.")
    ] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Check the sources: fields and columns of queries, overlapping panels, ids, colors, the time range."""
    from monitoring.dashboards.fields import mapped_fields
    from monitoring.dashboards.lint import lint as find_problems

    dashboards = load_dashboards(folder)
    problems = find_problems(dashboards, mapped_fields())
    ran = _run(dashboards) if elasticsearch and not problems else []
    problems += [problem for one in ran for problem in one.problems]
    empty = [f"{one.dashboard.id}/{one.panel.id}" for one in ran if one.result is not None and not one.result.rows]
    panels = sum(len(dashboard.panels) for dashboard in dashboards)
    if as_json:
        found = {
            "dashboards": len(dashboards),
            "panels": panels,
            "queries_run": len(ran),
            "without_rows": empty,
            "problems": problems,
        }
        print_json(found)
    else:
        _print(problems, empty)
        queries = f", {len(ran)} queries run" if elasticsearch else ""
        typer.echo(f"{len(dashboards)} dashboards, {panels} panels{queries}: {len(problems) or 'no'} problems")
    raise typer.Exit(1 if problems else 0)


@app.command(
    epilog="Examples: [bold]inflight dashboards compile[/bold], [bold]inflight dashboards compile --check[/bold]"
)
def compile(
    folder: Folder = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; by default beside the sources.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 if it is out of date.")] = False,
) -> None:
    """Compile the sources to the file of saved objects that Kibana imports."""
    from monitoring.dashboards.saved_objects import compile_dashboards, default_file
    from monitoring.dashboards.source import shipped

    target = out or default_file(folder or shipped())
    objects = compile_dashboards(load_dashboards(folder))
    if not check:
        try:
            target.write_bytes(objects)
        except OSError as error:
            raise exit_for(error) from error
        typer.echo(target)
    elif not target.exists() or target.read_bytes() != objects:
        raise exit_with(f"out of date: {target}; run `inflight dashboards compile`", FAILED)
    else:
        typer.echo(f"{target} is up to date")


@app.command(
    epilog="Examples: [bold]inflight dashboards apply[/bold], "
    "[bold]inflight dashboards apply --kibana-url https://kibana:5601/s/ml --timeout 600[/bold]. "
    "Safe to repeat: existing objects are overwritten."
)
def apply(
    kibana_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="By default INFLIGHT_KIBANA_URL. It may end with a Kibana space: /s/ml."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for a Kibana that is starting.")] = 120.0,
    folder: Folder = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be imported.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import the dashboards and their data views into Kibana 8.19 or 9.

    Exit code 1 if Kibana rejects an object, 2 if it is unreachable.
    """
    import msgspec
    from rich.console import Console

    from inflight.settings import load_settings
    from machine_learning_engineering.settings import redact_url
    from monitoring.dashboards.kibana import Kibana, KibanaError
    from monitoring.dashboards.saved_objects import FILE_NAME, compile_dashboards

    settings = load_settings()
    url = kibana_url or settings.kibana_url
    shown = redact_url(url)
    objects = compile_dashboards(load_dashboards(folder))
    names = [f"{saved['type']} {saved['id']}" for saved in map(msgspec.json.decode, objects.splitlines())]
    told: dict[str, Any] = {"kibana": shown, "objects": names, "imported": 0, "rejected": [], "dry_run": dry_run}
    if not dry_run:
        with exits(KibanaError):
            kibana = Kibana(url, settings.kibana_api_key, settings.kibana_ca_certs)
            with Console(stderr=True).status(f"Waiting for Kibana at {shown}") as status:
                kibana.wait(timeout)
                status.update("Importing")
                answer = kibana.import_objects(objects, FILE_NAME)
        told |= {"imported": answer.count, "rejected": answer.rejected}
    if as_json:
        print_json(told)
    else:
        for rejected in told["rejected"]:
            typer.echo(f"rejected: {render_text(f'{rejected.type} {rejected.id}: {rejected.reason}')}", err=True)
        verb, count = ("would import", len(names)) if dry_run else ("imported", told["imported"])
        typer.echo(f"{verb} {count} objects into {shown}" + (f":\n{chr(10).join(names)}" if dry_run else ""))
    raise typer.Exit(1 if told["rejected"] else 0)


def _run(dashboards: "list[Dashboard]") -> "list[QueryCheck]":
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.progress import track

    from inflight.settings import load_settings
    from monitoring.dashboards.lint import check_queries, count_queries
    from monitoring.elastic.client import connect

    settings = load_settings()
    # ValueError: the setting is no URL.
    with exits(ValueError), connect(settings) as client:
        console = Console(stderr=True)
        answers = check_queries(client, dashboards, datetime.now(UTC))
        return list(track(answers, "Queries", total=count_queries(dashboards), console=console, transient=True))


def _print(problems: "list[Problem]", empty: list[str]) -> None:
    for problem in problems:
        typer.echo(str(problem), err=True)
    hint_at_esql(map(str, problems))
    if empty:
        typer.echo(f"without rows now: {', '.join(empty)}")


def load_dashboards(folder: Path | None) -> "list[Dashboard]":
    """The dashboards; an error in a source ends the command with the file and the panel."""
    from monitoring.dashboards.source import InvalidDashboard, load_all

    try:
        dashboards = load_all(folder)
    except (InvalidDashboard, OSError) as error:
        raise exit_for(error, failed=(InvalidDashboard,)) from error
    if not dashboards:
        raise exit_with(f"no .toml file in {folder}")
    return dashboards


def hint_at_esql(reasons: Iterable[str]) -> None:
    """Print what to do if Elasticsearch rejected queries because it has no ES|QL, like the embedded node."""
    if any("no handler found for uri" in reason for reason in reasons):
        print_error(
            "this Elasticsearch has no ES|QL, like the embedded node: `inflight up --stack real` starts one with it"
        )
