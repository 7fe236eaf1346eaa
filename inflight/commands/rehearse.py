"""`inflight try`: score the newest events of a topic, and write nothing."""

from typing import Annotated

import typer

from inflight.errors import FAILED, exit_with, exits, require_broker
from inflight.rendering import print_json, print_table, render_text

app = typer.Typer()


@app.command(
    "try",
    epilog="Examples: [bold]inflight try fraud.toml[/bold], [bold]inflight try fraud --last 5000 --json[/bold]. "
    "Exit code 1: no event was answered.",
)
def try_(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A declaration (.toml), or an adopted model in the registry.")
    ],
    last: Annotated[int, typer.Option(min=1, max=1_000_000, help="Number of newest events.")] = 500,
    show: Annotated[int, typer.Option(min=0, help="Number of answers to show, the newest.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with every answer.")] = False,
) -> None:
    """Score the newest events of a model's topic as a worker would, and write nothing.

    Shows answers, why other events are refused, drift against the sample, and how long an event takes.
    """
    from inflight.adapters.adoption import EXPECTED
    from inflight.adapters.adoption_report import drift_lines, rehearsal_json, rehearsal_lines
    from inflight.adapters.rehearsal import rehearse_model
    from inflight.settings import load_settings
    from machine_learning_engineering.core.json_values import finite_json

    settings = load_settings()
    with exits(*EXPECTED):
        require_broker()
        name, rehearsal = rehearse_model(model, last, settings)
    if json:
        print_json({"model": name, **rehearsal_json(rehearsal, answers=True)})
    else:
        newest = rehearsal.answers[-show:] if show else []
        texts = finite_json([prediction for _, prediction in newest])
        rows = [(one, text.decode()) for (one, _), text in zip(newest, texts, strict=True)]
        print_table(("request id", "prediction"), rows)
        for what, text in (*rehearsal_lines(rehearsal), *drift_lines(rehearsal)):
            typer.echo(render_text(f"{what:>9}  {text}"))
    if not rehearsal.events:
        raise exit_with("the topic has no events", FAILED)
    if not rehearsal.answers:
        raise typer.Exit(FAILED)
