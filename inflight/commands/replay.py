"""`inflight replay`: publish prediction requests from a dataset, a file or standard input."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import exit_for, exits
from inflight.rendering import print_json

if TYPE_CHECKING:
    from msgspec import Struct

    from inflight.settings import Settings
    from producers.publisher import Errors
    from producers.replay import Progress as Replayed
    from producers.replay import ReplayReport
    from producers.sources import BadLines, Request

_EPILOG = (
    "Examples: [bold]inflight replay diamonds --shuffle --rate 500[/bold]; "
    "[bold]inflight replay new.csv --model titanic --text ticket[/bold]; "
    "[bold]cat requests.jsonl | inflight replay - --model diamonds[/bold]; "
    "[bold]inflight replay diamonds --shift carat=1.5 --limit 5000[/bold]"
)


app = typer.Typer()


@app.command("replay", epilog=_EPILOG)
def replay(
    source: Annotated[
        str,
        typer.Argument(
            help="A dataset (diamonds, titanic, reviews), a .csv or .jsonl file, or `-` for standard input."
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="The model, for lines that name none; the dataset's own by default.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests per second, evenly spaced; as fast as possible by default.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of requests.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Number of passes over the source.")] = 1,
    shift: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=CHANGE", help="Distort a feature: carat=1.5 (factor), depth=+2 or depth=-2. Repeatable."
        ),
    ] = None,
    shuffle: Annotated[
        bool,
        typer.Option(
            "--shuffle", help="Read everything first and publish it in a random order, the same in every run. Ids stay."
        ),
    ] = False,
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="A CSV column that stays a string, whatever it looks like."),
    ] = None,
    id_prefix: Annotated[
        str | None, typer.Option(help="Ids are PREFIX-00000000, ...: the same in every run. Random by default.")
    ] = None,
    input_format: Annotated[str, typer.Option("--format", help="Format of standard input: jsonl or csv.")] = "jsonl",
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first malformed line.")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Start a W3C trace with each request.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
) -> None:
    """Publish prediction requests and report the outcome of each send.

    Accepted: the broker acknowledged it with acks=all. Failed: the broker rejected it. Indeterminate: the send timed
    out, so the request may be on the topic; publish it again with the same id. Exit code 1 if any request failed, is
    indeterminate or was malformed. Datasets are sorted, which looks like drift: with --shuffle, --limit takes a random
    sample. Ctrl-C stops publishing, waits for requests in flight and reports.
    """
    from functools import partial

    from inflight.settings import load_settings
    from producers.replay import replay as publish
    from producers.shift import parse_shift
    from producers.sources import BadLines

    bad = BadLines(lambda line: typer.echo(str(line), err=True), strict=strict)
    settings = load_settings()
    with exits(*expected()):
        shifts = [parse_shift(item) for item in shift or ()]
        open_source, own_model = _open(source, input_format, bad, text or [], repeat, model)
        prepare(settings, rate)
    replayed = partial(
        publish,
        settings,
        _repeated(open_source, repeat),
        model=model or own_model,
        rate=rate,
        limit=limit,
        shift=shifts,
        id_prefix=id_prefix,
        shuffle=settings.seed if shuffle else None,
        trace=trace,
    )
    publish_and_report(replayed, limit, as_json, malformed=lambda: bad.count)


def _open(
    source: str, input_format: str, bad: "BadLines", text_fields: list[str], repeat: int, model: str | None
) -> tuple[Callable[[], "Iterator[Request]"], str | None]:
    """A function that opens the source, and the model of a dataset."""
    import sys
    from pathlib import Path

    from producers import sources

    if source == "-":
        if input_format not in ("jsonl", "csv"):
            raise ValueError(f"--format is jsonl or csv, not {input_format}")
        if repeat > 1:
            raise ValueError("standard input can be read only once: leave --repeat out, or name a file")
        stdin = "standard input"
        return (
            lambda: sources.read_stream(
                sys.stdin.buffer, stdin, input_format, bad, text_fields=text_fields, features=_features(model)
            ),
            None,
        )
    path = Path(source)
    if path.suffix or path.exists():
        path.open("rb").close()
        return lambda: sources.read_path(path, bad, text_fields=text_fields, features=_features(model)), None

    from model.catalog import available

    models = available()
    if source not in models:
        raise ValueError(
            f"no dataset {source!r}: there are {', '.join(sorted(models))}; a file ends with .csv or .jsonl"
        )
    return lambda: (sources.Request(features) for features in models[source].example_requests()), source


def _features(model: str | None) -> "type[Struct] | None":
    """The schema of a model that is installed here."""
    from model.catalog import available

    found = available().get(model) if model is not None else None
    return None if found is None else found.Features


def _repeated(open_source: Callable[[], "Iterator[Request]"], times: int) -> "Iterator[Request]":
    for _ in range(times):
        yield from open_source()


def prepare(settings: "Settings", rate: float | None) -> None:
    """Check the rate, create missing topics, and check those that are published to."""
    import logging

    from machine_learning_engineering.events.topics import LABELS, REQUESTS
    from machine_learning_engineering.kafka.topic_check import require_topics

    # kafka-python would print each failed attempt; the report has the final outcome.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    if rate is not None and not rate > 0:
        raise ValueError(f"--rate must be above 0, not {rate}")
    for fault in require_topics(settings, writes=(REQUESTS, LABELS), timeout=10):
        typer.secho(f"warning: {fault}", err=True, dim=True)


def publish_and_report(
    publish: "Callable[..., ReplayReport]", total: int | None, as_json: bool, malformed: Callable[[], int] = lambda: 0
) -> None:
    """Publish with a progress line and print the outcomes; they decide the exit code."""
    from producers.replay import ReplayStopped
    from producers.stop_signal import stop_on_signals

    stopped_by = None
    with _publishing(total) as on_progress, stop_on_signals() as stop_signal:
        try:
            report = publish(on_progress=on_progress, stop_signal=stop_signal)
        except ReplayStopped as stop:
            report, stopped_by = stop.report, stop.__cause__
        except Exception as error:
            raise exit_for(error, *expected()) from error
    print_report(report, as_json, malformed=malformed())
    if stopped_by is not None:
        raise exit_for(stopped_by, *expected())
    if report.interrupted:
        raise typer.Exit(130)
    if report.failed or report.indeterminate or malformed():
        raise typer.Exit(1)


@contextmanager
def _publishing(total: int | None) -> "Iterator[Callable[[Replayed], None]]":
    """A progress line on standard error if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = [
        SpinnerColumn(),
        TextColumn("publishing"),
        *([BarColumn()] if total else []),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)

        def update(state: "Replayed") -> None:
            elapsed = progress.tasks[0].elapsed or 0.0
            progress.update(
                task,
                completed=state.accepted + state.failed + state.indeterminate,
                description=f"{state.accepted:,} accepted  {state.outstanding:,} in flight  {state.failed:,} failed  "
                f"{state.indeterminate:,} indeterminate  {state.accepted / elapsed if elapsed else 0:,.0f}/s",
            )

        yield update


def print_report(report: "ReplayReport", as_json: bool, *, malformed: int = 0) -> None:
    """Print the outcomes of the sends, as JSON or as text."""
    rate = report.accepted / report.seconds if report.seconds else 0.0
    if as_json:
        outcome = {
            "accepted": report.accepted,
            "failed": report.failed,
            "indeterminate": report.indeterminate,
            "malformed": malformed,
            "seconds": round(report.seconds, 3),
            "rate_per_s": round(rate, 1),
            "interrupted": report.interrupted,
            **({"id_prefix": report.id_prefix} if report.id_prefix else {}),
            "errors": report.errors,
        }
        print_json(outcome)
        return
    typer.echo(
        f"{report.accepted:,} accepted, {report.failed:,} failed, {report.indeterminate:,} indeterminate, "
        f"{malformed:,} malformed; {report.seconds:.1f} s, {rate:,.0f} per second"
    )
    if report.id_prefix and (report.accepted or report.indeterminate):
        typer.echo(f"  ids {report.id_prefix}-00000000 and so on")
    print_causes(report.errors)
    if report.indeterminate:
        typer.echo("  Indeterminate requests may be on the topic: publish them again with the same ids.", err=True)


def print_causes(errors: "dict[str, Errors]") -> None:
    """Print how many records failed with each type of error, and its first message."""
    for kind, seen in errors.items():
        typer.echo(f"  {seen.records:,} x {kind}: {seen.first}", err=True)


def expected() -> tuple[type[BaseException], ...]:
    """Errors of publishing whose message names the fix."""
    from machine_learning_engineering.datasets import DatasetUnavailable
    from machine_learning_engineering.feature_store.offline import FeatureStoreError
    from producers.client import MissingTopic

    return ValueError, MissingTopic, DatasetUnavailable, FeatureStoreError
