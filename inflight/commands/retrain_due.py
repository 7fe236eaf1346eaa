"""`inflight retrain --due`: the pass of a CronJob or a timer; and the process in which a training runs."""

from contextlib import nullcontext
from typing import TYPE_CHECKING

import typer

from inflight.errors import FAILED, UNAVAILABLE, exit_with, exits
from inflight.rendering import print_json, render_line

if TYPE_CHECKING:
    from inflight.retrainer.reports import Report
    from inflight.settings import Settings

app = typer.Typer()


@app.command("retrain-one", hidden=True)
def retrain_one() -> None:
    """Do the training that standard input describes; for `inflight retrain --due` and `inflight retrainer`."""
    from inflight.retrainer.training import main

    main()


def run_due(model: str | None, *, dry_run: bool, json: bool) -> None:
    """Train what is due and print what came of each model.

    Raises:
        typer.Exit: Code 1 if a run failed, 2 if the policies, the registry or the stream can't be read.
    """
    from rich.console import Console

    from inflight.adapters.retrainer import starter
    from inflight.retrainer import child
    from inflight.retrainer.due import Retrainer
    from inflight.retrainer.evidence import StreamEvidence
    from inflight.settings import load_settings
    from machine_learning_engineering.policies import InvalidPolicies, load_policies, policies_file
    from monitoring.runtime.process import until_signalled

    settings = load_settings()
    _refuse_promotion(settings)
    with exits(InvalidPolicies):
        policies = load_policies(settings)
    due = {name: one for name, one in policies.items() if one.retraining is not None}
    if model is not None and model not in due:
        raise exit_with(
            f"{policies_file(settings) or settings.home / 'inflight.toml'} has no [models.{model}.retraining]: add it, "
            f"or run inflight retrain {model} without --due"
        )
    if not due and not json:
        typer.echo(f"no model has a retraining policy: write one to {settings.home / 'inflight.toml'}", err=True)
    console = Console(stderr=True)
    reports: list[Report] = []
    with (
        until_signalled() as stopping,
        console.status("looking") if console.is_terminal else nullcontext() as status,
    ):
        retrainer = Retrainer(
            settings, StreamEvidence(settings), child.run, starter(settings), stopping=stopping.is_set
        )
        wanted = due if model is None else {model: due[model]}
        for report in retrainer.run(
            wanted,
            dry_run=dry_run,
            on_progress=(lambda step: None) if status is None else (lambda step: status.update(step)),
        ):
            reports.append(report)
            if not json:
                _show(report)
    if json:
        print_json(reports)
    if any(report.outcome == "unreadable" or "are unknown" in report.reason for report in reports):
        raise typer.Exit(UNAVAILABLE)
    if any(report.failed for report in reports):
        raise typer.Exit(FAILED)


def _refuse_promotion(settings: "Settings") -> None:
    if settings.retrain_promote:
        raise exit_with(
            "INFLIGHT_RETRAIN_PROMOTE is set, and a due retraining never promotes: its rollout does. Unset it, or run "
            "inflight retrain MODEL"
        )


def _show(report: "Report") -> None:
    slot = f" {report.slot}" if report.slot else ""
    typer.echo(f"{report.model}:{slot} {report.outcome.replace('_', ' ')}")
    typer.echo(f"  {render_line(report.reason, 2_000)}")
    if report.rows:
        typer.echo(f"  {report.version or 'no version'} of {report.rows:,} rows in {report.seconds:.1f} s")
    for flag in report.flags:
        typer.echo(f"  {flag}")
    if report.rollout_id:
        typer.echo(f"  inflight rollout show {report.model}")
