"""`inflight schemas`: the JSON Schema of every event and the AsyncAPI document."""

from pathlib import Path
from typing import Annotated

import typer

from inflight.errors import FAILED, exit_with

_DIRECTORY = Path("docs/schemas")


app = typer.Typer()


@app.command(
    "schemas", epilog="Examples: [bold]inflight schemas --out schemas[/bold], [bold]inflight schemas --check[/bold]"
)
def schemas(
    out: Annotated[Path, typer.Option(help="The folder to write to or to compare with.")] = _DIRECTORY,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 if a file is out of date.")
    ] = False,
) -> None:
    """Write the JSON Schema of each event and an AsyncAPI document of all topics, for producers in any language."""
    from machine_learning_engineering.events.json_schema import stale, write

    if not check:
        for path in write(out):
            typer.echo(path)
        return
    files = stale(out)
    if files:
        raise exit_with(f"out of date in {out}: {', '.join(files)}; run `inflight schemas --out {out}`", FAILED)
    typer.echo(f"{out} is up to date")
