"""`inflight audit`: whether every accepted request has exactly one outcome."""

from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import FAILED, exit_with, exits, require_broker
from inflight.rendering import print_json

if TYPE_CHECKING:
    from monitoring.audit.audit import Audit


app = typer.Typer()


@app.command(
    epilog="Examples: [bold]inflight audit[/bold]; [bold]inflight audit --json --prefix nightly-[/bold], for "
    "what [bold]inflight replay --id-prefix nightly[/bold] published. "
    "Exit code 1 if a request was lost, deleted before it was scored, or has two different outcomes, or if there is no "
    "request at all. "
    "Requests in progress count as lost: wait for them."
)
def audit(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    prefix: Annotated[
        str, typer.Option(metavar="ID_PREFIX", help="Only requests whose id starts with this prefix.")
    ] = "",
    index: Annotated[bool, typer.Option("--index/--no-index", help="Also read the index.")] = True,
) -> None:
    """Count, from topics and index, whether every accepted request has exactly one visible outcome."""
    from rich.console import Console

    from inflight.settings import load_settings
    from machine_learning_engineering.registry.sources import RegistrySources
    from monitoring.audit.readers import run_audit
    from monitoring.runtime.sources import Sources

    require_broker()
    # A spinner if standard error is a terminal, otherwise nothing.
    with Console(stderr=True).status("Reading") as status, exits():
        settings = load_settings()
        result = run_audit(
            settings,
            prefix,
            index=index,
            progress=lambda source: status.update(f"Reading {source}"),
            sources=Sources(RegistrySources(settings).declarations()),
        )
    if as_json:
        print_json(result)
    else:
        _print(result)
    if not result.accepted and not result.expired:
        which = f" whose id starts with {prefix}" if prefix else ""
        raise exit_with(f"there is no request{which}: the audit shows nothing", FAILED)
    raise typer.Exit(0 if result.passed else FAILED)


def _print(result: "Audit") -> None:
    import msgspec

    for name, value in msgspec.structs.asdict(result).items():
        typer.echo(f"{name:<19}{'-' if value is None else f'{value:,}':>14}")
    broken = f"BROKEN: {result.lost:,} lost, {result.duplicates:,} with two outcomes"
    if result.expired:
        broken += f", {result.expired:,} deleted before they were scored"
    typer.echo(f"{'promise':<19}{'kept: one outcome each' if result.passed else broken}")
