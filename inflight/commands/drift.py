"""`inflight watcher` and `inflight drift show`: whether requests still look like those of the training."""

from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import exit_for

if TYPE_CHECKING:
    from machine_learning_engineering.events.schemas import DriftMeasured

drift = typer.Typer(no_args_is_help=True, help="Look at the drift that the watcher has measured.")


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(
        "watcher",
        help="Compare what the log says with what each version was trained on, window by window, until SIGTERM.",
        epilog="Example: [bold]INFLIGHT_DRIFT_WINDOW_ROWS=500 inflight watcher[/bold], "
        "then [bold]inflight drift show diamonds[/bold]. Run several: they share the partitions. "
        "It reads the reference profiles from the registry in INFLIGHT_HOME.",
    )(watcher)
    app.add_typer(drift, name="drift")


def watcher() -> None:
    """Run one watcher."""
    from inflight.settings import load_settings
    from machine_learning_engineering.observability import logging as service_log
    from monitoring.drift import process as room

    settings = load_settings()
    service_log.configure_logging("watcher", settings)
    try:
        room.run(settings)
    except Exception as error:
        raise exit_for(error, port="INFLIGHT_DRIFT_MONITOR_METRICS_PORT") from error


@drift.command(epilog="Examples: [bold]inflight drift show diamonds[/bold], [bold]... --last 1 --json[/bold]")
def show(
    model: Annotated[str, typer.Argument(help="The model, such as diamonds.")],
    last: Annotated[int, typer.Option(min=1, help="So many windows, the newest last.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with all fields and tests.")] = False,
) -> None:
    """Show the last windows of a model, and of each the fields that drifted.

    Exit code 1 if there is none yet.
    """
    import msgspec
    from rich.console import Console

    from inflight.settings import load_settings
    from monitoring.drift.history import last_windows

    # A spinner where standard error is a terminal, nothing elsewhere.
    with Console(stderr=True).status("Reading the measurements"):
        try:
            windows = last_windows(load_settings(), model, last)
        except Exception as error:
            raise exit_for(error) from error
    if as_json:
        typer.echo(msgspec.json.encode({"model": model, "windows": windows}).decode())
    elif windows:
        _print(windows)
    if not windows:
        typer.echo(
            f"error: no window of {model} was measured yet: does inflight watcher run, and has a window been filled?",
            err=True,
        )
        raise typer.Exit(1)


def _print(windows: "list[DriftMeasured]") -> None:
    from rich.console import Console
    from rich.table import Table

    for window in windows:
        drifted = [field.field for field in window.fields if field.drifted]
        times = f"{window.window_start:%Y-%m-%d %H:%M:%S} to {window.window_end:%H:%M:%S} UTC"
        title = f"{window.model} {window.model_version}, {window.rows:,} rows, {times}: {len(drifted)} drifted"
        table = Table(title=title, title_justify="left")
        for heading in ("field", "test", "PSI", "p, corrected", "missing", "unseen", "out of range", ""):
            right = heading in ("PSI", "p, corrected", "missing", "unseen", "out of range")
            table.add_column(heading, justify="right" if right else "left", no_wrap=True)
        for field in window.fields:
            table.add_row(
                field.field,
                f"{field.statistic} ({field.detail})" if field.detail else field.statistic,
                f"{field.psi:.3f}",
                f"{field.p_adjusted:.2g}",
                f"{field.missing_rate:.1%}",
                f"{field.unseen_rate:.1%}",
                f"{field.out_of_range_rate:.1%}",
                "DRIFTED" if field.drifted else "",
            )
        Console(width=None if Console().is_terminal else 120).print(table)
