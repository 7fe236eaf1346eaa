"""`inflight features follow | build | show`: from logged requests and their labels to training data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import exit_for

if TYPE_CHECKING:
    from machine_learning_engineering.feature_store.examples import Built
    from machine_learning_engineering.feature_store.store import FeatureStore

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

features = typer.Typer(no_args_is_help=True, help="Logged requests and their labels, as features and training data.")


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.add_typer(features, name="features")


@features.command(
    epilog="Example: [bold]inflight features build diamonds --labels sold.csv[/bold], then "
    "[bold]inflight train diamonds -ds dataset -ds .inflight/features/examples/diamonds[/bold]"
)
def build(
    names: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Of which; all if left out.")] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="True answers (.jsonl, .csv): request_id, model, label, observed_at."),
    ] = None,
    log: Annotated[
        str, typer.Option(help="`elasticsearch`, or the path of a SQLite prediction log.")
    ] = "elasticsearch",
    since: Annotated[
        str | None, typer.Option(help="Requests from this time on: 2h, 30d ago, or 2026-01-31T12:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Requests before this time, written like --since.")] = None,
    json: _JSON = False,
) -> None:
    """Bring logged requests and labels into the feature store, and write the labelled ones as training data.

    Labels come from files and from the log itself. What is in the store already is left alone, so build as often as
    you like; the examples are always all that the store knows.
    """
    import msgspec
    from rich.console import Console

    from inflight.adapters.logs import open_log
    from inflight.adapters.models import known_models
    from inflight.settings import load_settings
    from machine_learning_engineering.core.timestamps import parse_time
    from machine_learning_engineering.feature_store.examples import build as build_examples
    from machine_learning_engineering.feature_store.examples import read_labels

    classes = known_models(names or ())
    try:
        start, end = (None if text is None else parse_time(text) for text in (since, until))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    settings = load_settings()
    built = []
    try:
        with Console(stderr=True).status("") as status, open_log(log, settings) as opened, _store() as store:
            answers = [label for file in labels or () for label in read_labels(file)]
            for name in names or sorted(classes):
                status.update(f"{name}: reading the log")
                records = opened.read(name, since=start, until=end)
                folder = store.path / "examples" / name
                built.append(build_examples(store, classes[name], records, answers, folder))
    except Exception as error:
        raise exit_for(error, *_expected()) from error
    if json:
        typer.echo(msgspec.json.encode(built).decode())
        return
    for one in built:
        _print(one)
    strangers = sorted({label.model for label in answers} - set(classes))
    if strangers:
        typer.echo(f"labels of models that are not here were left out: {', '.join(strangers)[:500]}", err=True)


@features.command(
    epilog="Example: [bold]inflight features follow diamonds --every 30[/bold]; meanwhile "
    "[bold]inflight train diamonds -ds dataset -ds .inflight/features/examples/diamonds[/bold]"
)
def follow(
    names: Annotated[list[str] | None, typer.Argument(metavar="MODEL", help="Of which; all if left out.")] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two additions to the store.")] = 60.0,
    json: _JSON = False,
) -> None:
    """Fill the feature store from the stream, until SIGTERM: logged requests, and labels as they are reported.

    Labelled requests become training data by themselves, in the folder `features/examples/MODEL` of the home.
    """
    import msgspec

    from inflight.adapters.models import known_models
    from inflight.settings import load_settings
    from monitoring.feature_ingest import process as room

    classes = known_models(names or ())
    chosen = {name: classes[name] for name in names or sorted(classes)}
    try:
        followed = room.run(load_settings(), chosen, every=every)
    except Exception as error:
        raise exit_for(error, *_expected()) from error
    if json:
        typer.echo(msgspec.json.encode(followed).decode())
        return
    for one in followed.models:
        _print(one)


@features.command(
    epilog="Examples: [bold]inflight features show[/bold], [bold]inflight features show diamonds --key order-17[/bold]"
)
def show(
    view: Annotated[str | None, typer.Argument(metavar="VIEW", help="With --key: where to look.")] = None,
    key: Annotated[str | None, typer.Option(help="Show the latest values of this key.")] = None,
    json: _JSON = False,
) -> None:
    """Show what the feature store holds, or the latest values of one key."""
    import msgspec
    from rich.console import Console
    from rich.table import Table

    if (view is None) != (key is None):
        raise typer.BadParameter("give a view and --key together, or neither")
    try:
        with _store() as store:
            if view is not None and key is not None:
                found = store.latest(view, key)
                if found is None:
                    typer.echo(f"error: the view `{view}` has no key {key!r}", err=True)
                    raise typer.Exit(1)
                at, record = found
                typer.echo(msgspec.json.encode({"view": view, "key": key, "at": at, "features": record}).decode())
                return
            summaries = store.summaries()
    except Exception as error:
        raise exit_for(error, *_expected()) from error
    if json:
        typer.echo(msgspec.json.encode(summaries).decode())
        return
    if not summaries:
        typer.echo("The feature store is empty: run inflight features build")
        return
    table = Table("view", "rows", "keys", "files", "bytes", "first", "last", box=None)
    for one in summaries:
        sizes = [f"{number:,}" for number in (one.rows, one.online_keys, one.files, one.bytes)]
        table.add_row(one.view, *sizes, f"{one.first:%Y-%m-%d %H:%M:%S}", f"{one.last:%Y-%m-%d %H:%M:%S}")
    Console().print(table)


def _store() -> "FeatureStore":
    from inflight.settings import load_settings
    from machine_learning_engineering.feature_store.store import FeatureStore

    return FeatureStore(load_settings().home / "features")


def _print(one: "Built") -> None:
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
    """Errors whose messages name the fix."""
    from machine_learning_engineering.feature_store.offline import FeatureStoreError
    from machine_learning_engineering.prediction_log.store import PredictionLogError

    return FeatureStoreError, PredictionLogError, ImportError
