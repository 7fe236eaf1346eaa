"""The dashboard sources that the commands of `inflight dashboards` read, with their errors."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from monitoring.dashboards.source import Dashboard


def load_dashboards(folder: Path | None) -> "list[Dashboard]":
    """The dashboards; an error in a source ends the command with the file and the panel."""
    from monitoring.dashboards.source import InvalidDashboard, load_all

    try:
        dashboards = load_all(folder)
    except (InvalidDashboard, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    if not dashboards:
        typer.echo(f"error: no .toml file in {folder}", err=True)
        raise typer.Exit(1)
    return dashboards


def hint_at_esql(reasons: Iterable[str]) -> None:
    """Say what to do where queries were refused because the search node knows no ES|QL, as the embedded one."""
    if any("no handler found for uri" in reason for reason in reasons):
        hint = (
            "this search node has no ES|QL, as the embedded one has not: `inflight up --stack real` starts one that has"
        )
        typer.echo(f"error: {hint}", err=True)
