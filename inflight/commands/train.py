"""`inflight train`: compare candidates on data, keep every model, promote the best."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inflight.errors import FAILED, exit_for, print_error
from inflight.rendering import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from inflight.settings import Settings
    from machine_learning_engineering.evaluation.estimates import Estimate
    from machine_learning_engineering.prediction_log.store import PredictionLog
    from machine_learning_engineering.storage.location import Place
    from machine_learning_engineering.training.run_log import TrainingEntry

_EPILOG = (
    "Examples: [bold]inflight train titanic[/bold], "
    "[bold]inflight train diamonds -ds dataset -ds new-diamonds/ -n 10[/bold], "
    "[bold]inflight train diamonds -ds s3://lake/diamonds/ -st s3://models/registry[/bold], "
    "[bold]inflight train diamonds -ds log:labels.csv --json[/bold]"
)
_DATA_SOURCE = (
    "`dataset` (the model's own), a file (.csv, .jsonl, .parquet), a folder of such files, the URL of either, `log` "
    "(labelled requests in HOME/predictions.sqlite), `elasticsearch` or `archive` (those in the deployment's log), or "
    "`log:FILE`, `elasticsearch:FILE`, `archive:FILE` (with the labels in FILE). "
    "Repeat it to train on several sources together."
)
_SOTA_TARGET = "The registry for the best candidate, a folder or URL; workers open that of INFLIGHT_REGISTRY."
_LOG_TARGET = "The training log: a file that gets a line, or a URL below which each training is a file."
_FOLDER = "Folder (or s3:, gs:, az: URL)"
_N_MODELS = (
    "Maximum number of configurations for each MODEL: first one for each candidate, the simplest first; "
    "the searches share the rest."
)


def _setting(short: str, option: str, metavar: str, text: str, default: str, **more: Any) -> Any:
    """An option that overrides the setting of its name."""
    variable = f"INFLIGHT_TRAIN_{option.removeprefix('--').replace('-', '_').upper()}"
    return typer.Option(short, option, metavar=metavar, help=f"{text} [{variable}, {default}]", **more)


app = typer.Typer()


@app.command(epilog=_EPILOG)
def train(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help="The models to train; all by default.")
    ] = None,
    data_source: Annotated[
        list[str] | None, _setting("-ds", "--data-source", "SOURCE", _DATA_SOURCE, "dataset")
    ] = None,
    data_target: Annotated[
        str | None,
        _setting("-dt", "--data-target", "FOLDER", f"{_FOLDER} of the data layers.", "HOME/data-layers"),
    ] = None,
    models_target: Annotated[
        str | None,
        _setting("-mt", "--models-target", "FOLDER", f"{_FOLDER} of every fitted candidate.", "HOME/history"),
    ] = None,
    sota_target: Annotated[
        str | None, _setting("-st", "--sota-target", "FOLDER", _SOTA_TARGET, "HOME/registry")
    ] = None,
    log_target: Annotated[
        str | None, _setting("-lt", "--log-target", "FILE", _LOG_TARGET, "HOME/training-log.jsonl")
    ] = None,
    n_models: Annotated[
        int | None, _setting("-n", "--n-models", "COUNT", _N_MODELS, "the model's own numbers", min=1)
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="Only train models that have no champion yet.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the entries of the training log, as JSON.")] = False,
) -> None:
    """Train models: compare their candidates, keep each of them, and promote the best.

    Candidates are compared by cross-validation on four fifths of the data. The chosen one is measured on the last
    fifth and saved in the registry. It is promoted if it is significantly better than the champion on these rows, and
    not worse on those that were held out for the champion. HOME is INFLIGHT_HOME. Exit code 1 if a model was not
    trained, 2 if the log to train on is unreachable; the champion then stays.
    """
    from rich.console import Console

    from inflight.adapters.models import broken_models, known_models
    from inflight.adapters.promotions import announce_champion
    from inflight.settings import load_settings
    from machine_learning_engineering.datasets import DatasetUnavailable
    from machine_learning_engineering.evaluation.estimates import FitFailed
    from machine_learning_engineering.registry.manifest import RegistryError
    from machine_learning_engineering.registry.registry import Registry
    from machine_learning_engineering.registry.trial import Trials
    from machine_learning_engineering.training.pipeline import run_training
    from machine_learning_engineering.training.records import LogUnreadable

    classes = known_models(names or ())
    given = {
        "train_data_target": _place("-dt", data_target),
        "train_models_target": _place("-mt", models_target),
        "train_sota_target": _place("-st", sota_target),
        "train_log_target": _place("-lt", log_target),
        "train_n_models": n_models,
    }
    settings = load_settings().model_copy(update={key: value for key, value in given.items() if value is not None})
    sources = data_source or [settings.train_data_source]
    console = Console(stderr=True)
    entries: list[TrainingEntry] = []
    failed = not names and bool(broken_models())
    unreadable: LogUnreadable | None = None
    for name in names or sorted(classes):
        try:
            before = Registry(settings.sota_dir).champions().get(name)
            if missing and before is not None:
                continue
            with _logs(sources, settings) as logs, _progress(console) as report:
                entry = run_training(classes[name], settings, sources=sources, logs=logs, on_progress=report)
        except LogUnreadable as error:  # All models are trained on it.
            unreadable = error
            break
        except (
            DatasetUnavailable,
            RegistryError,
            FitFailed,
            ValueError,
            OSError,
            ImportError,
        ) as error:
            print_error(f"{name} was not trained, its champion stays:")
            for line in [str(error) or repr(error), *getattr(error, "__notes__", ())]:
                typer.echo(line, err=True)
            failed = True
            continue
        entries.append(entry)
        if settings.sota_dir == settings.registry_dir:
            # This process has predicted with it: no worker needs to try it first.
            registry = Registry(settings.registry_dir)
            Trials(registry, settings.trials_dir).pass_(name, entry.version)
        if entry.promoted and before is not None and settings.sota_dir == settings.registry_dir:
            announce_champion(settings, name, entry.version, reason=entry.reason, previous=before)
        if not json:
            _show(entry)
    if json:
        print_json(entries)
    if unreadable is not None:
        raise exit_for(unreadable, LogUnreadable) from unreadable
    if failed:
        raise typer.Exit(FAILED)


def _place(option: str, text: str | None) -> "Place | None":
    from machine_learning_engineering.storage.location import parse_place

    try:
        return None if text is None else parse_place(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


@contextmanager
def _logs(sources: "Sequence[str]", settings: "Settings") -> "Iterator[dict[str, PredictionLog]]":
    """The logs of the deployment by name, as far as they are among the sources."""
    from inflight.adapters.logs import DEPLOYMENT, open_log

    wanted = {source.partition(":")[0] for source in sources}
    with ExitStack() as stack:
        yield {name: stack.enter_context(open_log(name, settings)) for name in DEPLOYMENT if name in wanted}


@contextmanager
def _progress(console: "Console") -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar of fits on standard error, only on a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=None)
        yield lambda step, done, total: progress.update(task, description=step, completed=done, total=total or None)


def _show(entry: "TrainingEntry") -> None:
    for source in entry.sources:
        if source.skipped:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in source.skipped.items())
            typer.echo(f"{entry.model}: skipped records of {source.name}: {reasons}")
    compared = _count(len(entry.models), "candidate")
    typer.echo(f"{entry.model}: {compared} on {entry.rows_trained:,} rows, cross-validated")
    for model in entry.models:
        mark = "*" if model.id == entry.chosen else " "
        configurations = _count(max(1, len(model.trials)), "configuration")
        typer.echo(f"{mark} {model.candidate} ({configurations}, {model.seconds:.1f} s)")
        typer.echo(f"    {_intervals(model.cross_validation)}")
        speeds = ", ".join(f"{speed:,} in batches of {size}" for size, speed in model.rows_per_second.items())
        typer.echo(f"    rows/s: {speeds}")
    for failed in entry.failed_candidates:
        typer.echo(f"  {failed.candidate} was left out: {failed.error}")
    typer.echo(f"* {entry.selection}")
    typer.echo(f"on {entry.rows_held_out:,} held-out rows: {_intervals(entry.held_out)}")
    typer.echo("(in brackets: 95 % confidence intervals)")
    mark = "champion" if entry.promoted else "not promoted"
    typer.echo(f"{entry.model} {entry.version}: {mark}: {entry.reason} ({entry.seconds:.1f} s, {entry.run_id})")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _intervals(estimates: "dict[str, Estimate]") -> str:
    return ", ".join(f"{name} {one.mean:.4g} [{one.low:.4g}, {one.high:.4g}]" for name, one in estimates.items())
