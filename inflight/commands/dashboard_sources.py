"""The dashboard sources that the commands of `inflight dashboards` read, with their errors."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from inflight.errors import exit_for, exit_with, print_error

if TYPE_CHECKING:
    from monitoring.dashboards.source import Dashboard


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
