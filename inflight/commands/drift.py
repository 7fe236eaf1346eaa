"""`inflight drift show`: how much the requests differ from the training data."""

from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import FAILED, exit_with, exits, require_broker
from inflight.rendering import print_json, render_time

if TYPE_CHECKING:
    from machine_learning_engineering.events.schemas import DriftMeasured

app = typer.Typer(
    name="drift",
    no_args_is_help=True,
    help="Show the drift that the drift monitor has measured.",
    epilog="Example: [bold]inflight drift show diamonds[/bold]",
)


@app.command(epilog="Examples: [bold]inflight drift show diamonds[/bold], [bold]... --last 1 --json[/bold]")
def show(
    model: Annotated[str, typer.Argument(help="The model, such as diamonds.")],
    last: Annotated[int, typer.Option(min=1, help="Number of windows, the newest last.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with all fields and tests.")] = False,
) -> None:
    """Show the last windows of a model and the fields that drifted in each.

    Exit code 1 if there is no window yet.
    """
    from rich.console import Console

    from inflight.settings import load_settings
    from monitoring.drift.history import last_windows

    require_broker()
    # A spinner if standard error is a terminal, otherwise nothing.
    with Console(stderr=True).status("Reading the measurements"), exits():
        windows = last_windows(load_settings(), model, last)
    if as_json:
        print_json({"model": model, "windows": windows})
    elif windows:
        _print(windows)
    if not windows:
        raise exit_with(
            f"no window of {model} has been measured yet: check that inflight drift-monitor runs and that a window "
            "is full",
            FAILED,
        )


def _print(windows: "list[DriftMeasured]") -> None:
    from rich.console import Console
    from rich.table import Table

    for window in windows:
        drifted = [field.field for field in window.fields if field.drifted]
        times = f"{render_time(window.window_start)} to {render_time(window.window_end)}"
        title = f"{window.model} {window.model_version}, {window.rows:,} rows, {times}: {len(drifted)} drifted"
        table = Table(title=title, title_justify="left")
        for heading in ("field", "test", "PSI", "adjusted p", "missing", "unseen", "out of range", ""):
            right = heading in ("PSI", "adjusted p", "missing", "unseen", "out of range")
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
