"""`inflight score`: score files with a model of the registry, with the answers of the stream."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inflight.errors import FAILED, exit_with, exits
from inflight.rendering import print_json, render_line

if TYPE_CHECKING:
    from rich.console import Console

    from machine_learning_engineering.scoring.run import ScoringReport

_EPILOG = (
    "Examples: [bold]inflight score orders/*.parquet --model fraud -o scored/[/bold], "
    "[bold]inflight score orders.csv --model fraud:v3 -o scored/ --format csv --keep order_id[/bold], "
    "[bold]inflight score s3://shop/orders/ --model fraud@champion -o scored/ --json[/bold]"
)
_SHOWN_REASONS = 5


class OutputFormat(StrEnum):
    """Formats of the output."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    CSV = "csv"


app = typer.Typer()


@app.command(epilog=_EPILOG)
def score(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES...",
            help="Files, folders, patterns or URLs (s3://, gs://): .parquet, .arrow, .orc, .csv, .jsonl. "
            "Each column is a feature by its name, or by its path in events, such as order.amount.",
        ),
    ],
    model: Annotated[
        str, typer.Option("-m", "--model", metavar="NAME", help="The model: fraud, fraud:v3 or fraud@champion.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Folder for the scored rows; made if missing.")
    ],
    format: Annotated[OutputFormat, typer.Option("--format", help="Format of the output.")] = OutputFormat.PARQUET,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Carry this column through; repeat it for several. By default all that are no features.",
        ),
    ] = None,
    label: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column with the true values: the model's metrics are printed.")
    ] = "",
    batch_rows: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Rows in memory, which are predicted at once.")
    ] = 8_192,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with what is in FOLDER, or remove its parts first.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Score files with a model of the registry: the same rows get the same answers as on the stream.

    Memory is bounded, whatever the size of the files. After a crash, the same command goes on where it stopped, with
    the same output. Refused rows are in FOLDER/_refused, each with its position and the reason. Exit code 1 if no row
    could be scored, 2 if an input, the model or FOLDER can't be used.
    """
    from rich.console import Console

    from inflight.adapters.models import known_models
    from inflight.settings import load_settings
    from machine_learning_engineering.core.faults import MachineFaultError
    from machine_learning_engineering.registry.manifest import RegistryError
    from machine_learning_engineering.registry.uri import CHAMPION, parse
    from machine_learning_engineering.scoring.inputs import InputRefused
    from machine_learning_engineering.scoring.journal import OutputRefused
    from machine_learning_engineering.scoring.run import score_files
    from machine_learning_engineering.scoring.scorer import Scorer

    settings = load_settings()
    with exits(InputRefused, OutputRefused, RegistryError, ImportError, OSError, failed=(MachineFaultError,)):
        name, _ = parse(model, CHAMPION)
        [model_class] = [cls for known, cls in known_models([name]).items() if known == name]
        scorer = Scorer(
            model, registry=settings.registry_dir, model_class=model_class, keep=keep, batch_rows=batch_rows
        )
        with _progress(Console(stderr=True)) as report:
            done = score_files(
                scorer, sources, output, format=format.value, label=label, resume=resume, on_progress=report
            )
    if json:
        print_json(done)
    else:
        _show(done)
    if done.rows and not done.scored:
        raise exit_with("no row could be scored", FAILED)


@contextmanager
def _progress(console: "Console") -> Iterator[Callable[[float, int], None]]:
    """A progress bar on standard error, only on a terminal."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()]
    columns += [TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("scoring", total=1.0)
        yield lambda done, rows: progress.update(task, description=f"{rows:,} rows", completed=done)


def _show(done: "ScoringReport") -> None:
    typer.echo(f"{done.model} {done.version}: {done.scored:,} of {done.rows:,} rows scored, in {done.seconds:.1f} s")
    if done.resumed:
        typer.echo(f"{done.resumed:,} of them were in {done.output} before")
    renamed = {name: column for name, column in done.features.items() if name != column}
    if renamed:
        typer.echo("features: " + ", ".join(f"{name} from {column}" for name, column in renamed.items()))
    if done.absent:
        typer.echo(f"without a column, so their default: {', '.join(done.absent)}")
    typer.echo(f"carried through: {', '.join(done.kept) or 'nothing'}")
    for name, one in done.metrics.items():
        typer.echo(f"{name} {one.mean:.4g} [{one.low:.4g}, {one.high:.4g}] on {done.labelled:,} labelled rows")
    if done.refused:
        typer.echo(f"{done.refused:,} rows refused, see {done.output}/_refused:")
        for reason, count in list(done.reasons.items())[:_SHOWN_REASONS]:
            typer.echo(f"  {count:,}: {render_line(reason)}")
