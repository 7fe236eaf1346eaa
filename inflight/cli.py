"""The command `inflight`. Each file in `inflight.commands` reads arguments, calls a package that does the work, prints.

`--help` has to respond at once, so neither this file nor those files import more than typer at the top.
"""

import os
from typing import Annotated

import typer

from inflight.commands import (
    adopt,
    audit,
    dashboards,
    demo,
    dlq,
    drift,
    features,
    health,
    keys,
    labels,
    models,
    nodes,
    processes,
    prune,
    redact,
    rehearse,
    replay,
    results,
    retrain,
    retrain_due,
    rollout,
    run,
    schemas,
    score,
    top,
    trace,
    train,
)
from inflight.errors import UNAVAILABLE, print_error

app = typer.Typer(
    name="inflight",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help="Streaming inference you can see: requests on Kafka in, predictions out, every request logged.",
    epilog="Example: [bold]inflight demo[/bold]. Settings: INFLIGHT_* variables or the file in INFLIGHT_ENV_FILE. "
    "Exit codes: 1 if the answer is no or a job failed, 2 if something outside the command is missing or wrong.",
)
for _commands in (
    demo,
    nodes,
    train,
    retrain,
    retrain_due,
    models,
    rollout,
    features,
    replay,
    results,
    trace,
    dlq,
    schemas,
):
    app.add_typer(_commands.app)
for _commands in (
    adopt,
    rehearse,
    score,
    run,
    processes,
    health,
    keys,
    audit,
    dashboards,
    top,
    redact,
    drift,
    labels,
    prune,
):
    app.add_typer(_commands.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from machine_learning_engineering.core.version import __version__

        typer.echo(f"inflight {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command. The help of the whole is above."""


def main() -> None:
    """Run the command line. What it writes is for this user alone: models, logged requests, training data."""
    os.umask(0o077)
    try:
        app()
    except ModuleNotFoundError as error:
        if error.name != "machine_learning_engineering":
            raise
        print_error("Inflight's SDK is not on the path: run `make setup`, or pip install '.' in the repository")
        raise SystemExit(UNAVAILABLE) from None
    except ValueError as error:
        problems = _wrong_settings(error)
        if not problems:
            raise
        for problem in problems:
            print_error(problem)
        raise SystemExit(UNAVAILABLE) from None


def _wrong_settings(error: Exception) -> list[str]:
    """The wrong settings and why, without their values, which may be secret; empty for any other error."""
    # By the names of their classes: pydantic is not imported before a command runs.
    if type(error).__name__ in ("SettingsError", "UntrustedEnvFile"):
        return [str(error)]
    if type(error).__name__ != "ValidationError" or not getattr(error, "title", "").endswith("Settings"):
        return []
    problems = []
    for one in error.errors(include_url=False, include_context=False, include_input=False):  # type: ignore[attr-defined]
        name = f"INFLIGHT_{one['loc'][0]}: ".upper() if one["loc"] else ""
        problems.append(name + one["msg"].removeprefix("Value error, "))
    return problems


if __name__ == "__main__":
    main()
