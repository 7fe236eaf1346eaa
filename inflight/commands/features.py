"""`inflight features follow | build | show`: from logged requests and their labels to training data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import FAILED, exit_with, exits
from inflight.rendering import print_json, render_time

if TYPE_CHECKING:
    from machine_learning_engineering.feature_store.examples import BuildReport
    from machine_learning_engineering.feature_store.store import FeatureStore

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

app = typer.Typer(
    name="features",
    no_args_is_help=True,
    help="Logged requests and their labels, as features and training data.",
    epilog="Example: [bold]inflight features build diamonds --labels sold.csv[/bold]",
)


@app.command(
    epilog="Example: [bold]inflight features build diamonds --labels sold.csv[/bold], then "
    "[bold]inflight train diamonds -ds dataset -ds ~/.inflight/features/examples/diamonds[/bold]"
)
def build(
    names: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="The models; all by default.")] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Labels (.jsonl, .csv): request_id, model, label, observed_at."),
    ] = None,
    log: Annotated[
        str, typer.Option(help="`elasticsearch`, `archive`, or the path of a SQLite prediction log.")
    ] = "elasticsearch",
    since: Annotated[
        str | None, typer.Option(help="Only requests from this time on: 2h, 30d ago, or 2026-01-31T12:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only requests before this time, written like --since.")] = None,
    json: _JSON = False,
) -> None:
    """Add logged requests and labels to the feature store, and write the labelled ones as training data.

    Labels come from files and from the log itself. Running it again adds only what is new; the examples always hold
    every labelled request of the store.
    """
    from rich.console import Console

    from inflight.adapters.logs import open_log
    from inflight.adapters.models import known_models
    from inflight.settings import load_settings
    from machine_learning_engineering.core.timestamps import parse_time
    from machine_learning_engineering.feature_store.examples import build_from_log, read_labels

    classes = known_models(names or ())
    try:
        start, end = (None if text is None else parse_time(text) for text in (since, until))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    settings = load_settings()
    chosen = {name: classes[name] for name in names or sorted(classes)}
    with exits(*_expected()), open_log(log, settings) as opened, _store() as store:
        read = [label for file in labels or () for label in read_labels(file)]
        with Console(stderr=True).status("") as status:
            built = build_from_log(store, chosen, opened, read, since=start, until=end, on_progress=status.update)
    if json:
        print_json(built)
        return
    for one in built:
        _print(one)
    unknown = sorted({label.model for label in read} - set(classes))
    if unknown:
        typer.echo(f"skipped labels of unknown models: {', '.join(unknown)[:500]}", err=True)


@app.command(
    epilog="Example: [bold]inflight features follow diamonds --every 30[/bold]; meanwhile "
    "[bold]inflight train diamonds -ds dataset -ds ~/.inflight/features/examples/diamonds[/bold]"
)
def follow(
    names: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="The models; all by default.")] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two writes to the store.")] = 60.0,
    json: _JSON = False,
) -> None:
    """Add logged requests and reported labels from the stream to the feature store until SIGTERM.

    Labelled requests become training data in the folder `features/examples/MODEL` of the home.
    """
    from inflight.adapters.models import known_models
    from inflight.settings import load_settings
    from monitoring.feature_ingest.process import run

    classes = known_models(names or ())
    chosen = {name: classes[name] for name in names or sorted(classes)}
    with exits(*_expected(), port="INFLIGHT_FEATURES_METRICS_PORT"):
        followed = run(load_settings(), chosen, every=every)
    if json:
        print_json(followed)
        return
    for one in followed.models:
        _print(one)


@app.command(
    epilog="Examples: [bold]inflight features show[/bold], [bold]inflight features show diamonds --key order-17[/bold]"
)
def show(
    view: Annotated[str | None, typer.Argument(metavar="VIEW", help="The view of --key.")] = None,
    key: Annotated[str | None, typer.Option(help="Show the latest values of this key.")] = None,
    json: _JSON = False,
) -> None:
    """Show the contents of the feature store, or the latest values of one key."""
    from rich.console import Console
    from rich.table import Table

    if (view is None) != (key is None):
        raise typer.BadParameter("give a view and --key together, or neither")
    with exits(*_expected()), _store() as store:
        if view is not None and key is not None:
            found = store.latest(view, key)
            if found is None:
                raise exit_with(f"the view `{view}` has no key {key!r}", FAILED)
            at, record = found
            print_json({"view": view, "key": key, "at": at, "features": record})
            return
        summaries = store.summaries()
    if json:
        print_json(summaries)
        return
    if not summaries:
        typer.echo("The feature store is empty: run inflight features build")
        return
    table = Table("view", "rows", "keys", "files", "bytes", "first", "last", box=None)
    for one in summaries:
        sizes = [f"{number:,}" for number in (one.rows, one.online_keys, one.files, one.bytes)]
        table.add_row(one.view, *sizes, render_time(one.first), render_time(one.last))
    Console().print(table)


def _store() -> "FeatureStore":
    from inflight.settings import load_settings
    from machine_learning_engineering.feature_store.store import FeatureStore

    return FeatureStore(load_settings().home / "features")


def _print(one: "BuildReport") -> None:
    redacted = f", {one.redacted:,} redacted" if one.redacted else ""
    typer.echo(
        f"{one.model}: {one.requests:,} requests ({one.new_requests:,} new, {one.refused:,} refused{redacted}), "
        f"{one.labels:,} labels ({one.new_labels:,} new, {one.refused_labels:,} refused, "
        f"{one.unmatched:,} without a request before them)"
    )
    if one.examples:
        typer.echo(f"  {one.examples:,} examples: inflight train {one.model} -ds dataset -ds {Path(one.path).parent}")
    else:
        typer.echo("  no examples yet: give --labels FILE, with the request ids of the log")


def _expected() -> tuple[type[BaseException], ...]:
    """Errors whose message names the fix."""
    from machine_learning_engineering.feature_store.offline import FeatureStoreError
    from machine_learning_engineering.prediction_log.store import PredictionLogError

    return FeatureStoreError, PredictionLogError, ImportError
