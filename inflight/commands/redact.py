"""`inflight redact`: the features that the log does not store as sent, and the tokens of values."""

from typing import Annotated

import typer

from inflight.errors import exit_with
from inflight.rendering import print_json

app = typer.Typer()


@app.command(
    "redact",
    epilog="Examples: [bold]inflight redact[/bold], [bold]inflight redact --json[/bold], "
    "[bold]inflight redact --value 'Braund, Mr. Owen Harris'[/bold]. The rules are INFLIGHT_LOG_REDACT and each "
    "model's own `redacted_features`.",
)
def redact(
    value: Annotated[
        str | None,
        typer.Option(help="Print the token of this value in the log: a string, or JSON for numbers and lists."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show which features of each model the log keeps, hashes or drops, with the settings of this command."""
    from inflight.settings import load_settings
    from machine_learning_engineering.core.json_values import value_of_cell
    from machine_learning_engineering.observability.redaction import InvalidRules, redaction, tokens
    from model.catalog import available

    settings = load_settings()
    if value is not None:
        token = tokens(settings)
        if token is None:
            raise exit_with("set INFLIGHT_LOG_REDACT_KEY to the secret of the workers")
        found = token(value_of_cell(value))
        return print_json({"value": value, "token": found}) if as_json else typer.echo(found)
    classes = available()
    try:
        rules = redaction(settings, classes)
    except InvalidRules as error:
        raise exit_with(error) from error
    for name in rules.unmatched:
        typer.echo(f"warning: INFLIGHT_LOG_REDACT has rules for {name}, and there is no such model", err=True)
    shown = {
        name: rules.by_model[name].actions
        if name in rules.by_model
        else dict.fromkeys(model.Features.__struct_encode_fields__, "keep")
        for name, model in sorted(classes.items())
    }
    if as_json:
        return print_json(shown)
    for name, actions in shown.items():
        by_action = {action: [one for one, what in actions.items() if what == action] for action in ("hash", "drop")}
        told = [f"{action} {', '.join(names)}" for action, names in by_action.items() if names]
        typer.echo(f"{name}: {'; '.join(told) or 'all features are logged as they were sent'}")
    return None
