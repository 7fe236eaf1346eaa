"""`inflight prune`: remove old training data, fitted candidates and records from the home."""

from typing import Annotated

import typer

from inflight.errors import exits
from inflight.rendering import print_json

app = typer.Typer()


@app.command(
    epilog="Examples: [bold]inflight prune --older-than 90d --dry-run[/bold]; "
    "[bold]inflight prune --older-than 1w[/bold]"
)
def prune(
    older_than: Annotated[str, typer.Option(help="Age, such as 12h, 90d or 2w, or a time: 2026-01-31.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be removed.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Remove data layers, copies of raw files, versions in the history and records of retrainings.

    Also removes what killed processes left unfinished. Everything in the registry, the training log, the prediction log
    and the feature store stay.
    """
    from inflight.settings import load_settings
    from machine_learning_engineering.core.timestamps import parse_time
    from machine_learning_engineering.registry.manifest import RegistryError
    from machine_learning_engineering.training.prune import prune as remove

    try:
        before = parse_time(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with exits(OSError, RegistryError):
        report = remove(load_settings(), before, dry_run=dry_run)
    if json:
        print_json(report)
        return
    verb = "would remove" if dry_run else "removed"
    typer.echo(
        f"{verb} {report.layers:,} data layers, {report.raw_files:,} raw files, "
        f"{report.history_versions:,} versions of the history, {report.retraining_records:,} records of retrainings "
        f"and {report.leftovers:,} unfinished files: {report.bytes:,} bytes"
    )
