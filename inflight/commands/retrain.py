"""`inflight retrain`: check whether a champion has become worse, and if so train a challenger."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import FAILED, exit_for, print_error
from inflight.rendering import print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inflight.settings import Settings
    from machine_learning_engineering.core.example import Example
    from machine_learning_engineering.retraining.decision import Decision
    from machine_learning_engineering.sdk import MLEModel

_EPILOG = (
    "Examples: [bold]inflight retrain diamonds --labels sold.csv --dry-run[/bold], "
    "[bold]inflight retrain diamonds --log predictions.sqlite --since 7d --json[/bold], "
    "[bold]inflight retrain --due[/bold]"
)


app = typer.Typer()


@app.command(epilog=_EPILOG)
def retrain(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="The name of the model; with --due, all by default.")
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            help="`elasticsearch`, `archive`, or the path of a SQLite prediction log; default HOME/predictions.sqlite."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labels (.csv, .jsonl): request_id, label. Added to those in the log."),
    ] = None,
    data_source: Annotated[
        list[str] | None,
        typer.Option(
            "-ds",
            "--data-source",
            metavar="SOURCE",
            help="Data to retrain on, as for `inflight train`: files, folders, `dataset`. "
            "By default the labelled rows of the log.",
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only requests from this time on: 2h, 30d ago, or 2026-01-31T12:00:00Z.")
    ] = None,
    significance: Annotated[
        float,
        typer.Option(min=0.0001, max=0.5, help="False-alarm rate of the test for a worse champion or for drift."),
    ] = 0.002,
    min_labelled: Annotated[
        int, typer.Option(min=2, help="With fewer labelled rows the metric is not tested and nothing is trained.")
    ] = 200,
    min_rows: Annotated[int, typer.Option(min=1, help="With fewer rows drift is not tested.")] = 500,
    promote: Annotated[
        bool | None,
        typer.Option(
            "--promote/--no-promote",
            help="Promote a challenger that passes the promotion rule, instead of leaving it to a person. "
            "[INFLIGHT_RETRAIN_PROMOTE, no]",
            show_default=False,
        ),
    ] = None,
    max_source_share: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=1.0,
            help="Maximum share of the log's labelled rows that one source may have in the retraining. "
            "[INFLIGHT_TRAIN_MAX_SOURCE_SHARE, 1]",
        ),
    ] = None,
    due: Annotated[
        bool,
        typer.Option(
            "--due",
            help="Train what the policies in INFLIGHT_POLICIES say is due now, and start its rollout. "
            "For a timer or CronJob: of several that run, one trains.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print whether retraining is due.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the decision with all its evidence, as JSON.")] = False,
) -> None:
    """Retrain a model if its live metric is worse than its recorded one, or, without labels, if its inputs drifted.

    The challenger passes if it is better than the champion on fresh rows, and not worse on the champion's own held-out
    rows. It then waits for `inflight models promote MODEL`, or is promoted with --promote. Every decision is kept with
    its evidence in HOME/retraining. Exit code 1 if the retraining failed, 2 if the log is unreachable or an argument is
    wrong; the champion then stays.

    With --due, schedule, drift, quality, number of labels and age decide by the policies in INFLIGHT_POLICIES, and a
    rollout decides on the promotion. Exit code 0 also if nothing is due, 1 if a run failed, 2 if something that is
    needed to decide can't be read.
    """
    if due:
        options = (log, labels, data_source, since, promote, max_source_share)
        _run_due(model, any(one is not None for one in options), dry_run, json)
        return
    if model is None:
        raise typer.BadParameter("name a MODEL, or give --due")
    from rich.console import Console

    from inflight.adapters.logs import open_log
    from inflight.adapters.models import known_models
    from inflight.adapters.promotions import announce_champion
    from inflight.settings import load_settings
    from machine_learning_engineering.core.timestamps import parse_time
    from machine_learning_engineering.prediction_log.store import PredictionLogError
    from machine_learning_engineering.registry.manifest import CorruptModel, IncompatibleModel, RegistryError
    from machine_learning_engineering.registry.registry import Registry
    from machine_learning_engineering.registry.uri import CHAMPION, parse
    from machine_learning_engineering.training.log_source import read_label_file
    from machine_learning_engineering.training.records import LogUnreadable

    settings = load_settings()
    if max_source_share is not None:
        settings = settings.model_copy(update={"train_max_source_share": max_source_share})
    try:
        name = parse(model).name
        model_class = known_models([name])[name]
        # A line here; later it would be a failed retraining with a traceback.
        Registry(settings.registry_dir).resolve(name, CHAMPION)
        given = None if labels is None else read_label_file(labels, model_class)
        start = None if since is None else parse_time(since)
        examples = _examples(model_class, settings, data_source) if data_source else None
        console = Console(stderr=True)
        with (
            open_log(log or str(settings.prediction_log), settings) as opened,
            console.status(name) if console.is_terminal else nullcontext() as status,
        ):
            # As above: an unreachable log would be a failed retraining.
            next(opened.read(name, since=start), None)
            decision = model_class.trigger_retraining(
                opened,
                given,
                examples=examples,
                settings=settings,
                significance=significance,
                min_labelled=min_labelled,
                min_rows=min_rows,
                since=start,
                dry_run=dry_run,
                promote=promote,
                on_progress=(lambda step: None) if status is None else (lambda step: status.update(step)),
            )
    except (PredictionLogError, LogUnreadable, RegistryError, ValueError, OSError) as error:
        raise exit_for(
            error, PredictionLogError, RegistryError, ValueError, failed=(CorruptModel, IncompatibleModel)
        ) from error
    if decision.outcome == "promoted" and decision.challenger is not None:
        announce_champion(settings, name, decision.challenger, reason=decision.reason, previous=decision.champion)
    if json:
        print_json(decision)
    else:
        _show(decision)
    if decision.outcome == "failed":
        raise typer.Exit(FAILED)


def _run_due(model: str | None, has_options: bool, dry_run: bool, json: bool) -> None:
    from inflight.commands.retrain_due import run_due

    if has_options:
        raise typer.BadParameter(
            "--due takes --dry-run and --json alone: its data are those of the policy, and its rollout promotes"
        )
    run_due(model, dry_run=dry_run, json=json)


def _examples(model_class: "type[MLEModel]", settings: "Settings", sources: list[str]) -> "list[Example]":
    import msgspec

    from machine_learning_engineering.core.example import Example
    from machine_learning_engineering.training.sources import collect

    decode = msgspec.json.decode
    found = collect(model_class, settings, sources)
    for source in found.sources:
        if source.skipped:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in source.skipped.items())
            typer.echo(f"skipped records of {source.name}: {reasons}", err=True)
        if source.label_sources:
            typer.echo(f"records of {source.name} by source of the label: {_by_source(source.label_sources)}", err=True)
    return [Example(decode(record.features), decode(record.label), record.group) for record in found.records]


def _by_source(counts: "Mapping[str, int]") -> str:
    """At most ten sources, the largest first; names come from producers."""
    largest = sorted(counts.items(), key=lambda item: -item[1])
    more = [f"{len(largest) - 10} more sources"] if len(largest) > 10 else []
    return ", ".join([*(f"{count:,} {source!r}" for source, count in largest[:10]), *more])


def _show(decision: "Decision") -> None:
    evidence = decision.evidence
    typer.echo(f"{decision.model} {decision.champion or ''}: {decision.outcome}")
    if decision.reason:
        typer.echo(f"  {decision.reason}")
    if decision.error:
        print_error(decision.error)
    skipped = "".join(f", {count} {why}" for why, count in evidence.skipped.items())
    typer.echo(f"  {evidence.rows:,} rows, {evidence.labelled:,} with a label{skipped}")
    if decision.trained_on:
        typer.echo(f"  fresh rows by source of the label: {_by_source(decision.trained_on)}")
    if evidence.labels_unmatched:
        typer.echo(f"  {evidence.labels_unmatched:,} labels match no row that was read")
    for test in evidence.drift.tests[:3] if evidence.drift is not None else ():
        mark = "drifted" if test.drifted else "no drift"
        typer.echo(f"  {test.field} {test.statistic}: PSI {test.psi:.3g}, adjusted p {test.p_adjusted:.2g}: {mark}")
    if decision.record:
        typer.echo(f"  {decision.record}")
