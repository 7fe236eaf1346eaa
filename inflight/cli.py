"""The command `inflight`. Doors only: each file in `inflight.commands` reads arguments, calls a room and prints.

`--help` has to answer at once, so nothing here or at the top of those files imports more than typer and rich.
"""

import typer

from inflight.commands import (
    dashboards,
    demo,
    dlq,
    features,
    labels,
    models,
    redact,
    replay,
    results,
    retrain,
    schemas,
    train,
    worker,
)
from inflight.commands import (
    drift as watcher,
)
from inflight.commands import (
    nodes as stack,
)
from inflight.commands import (
    processes as monitoring,
)
from inflight.commands import (
    top as watch,
)

app = typer.Typer(
    name="inflight",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help="Streaming inference you can see: requests on Kafka in, predictions out, every request logged.",
    epilog="Start with [bold]inflight demo[/bold]. Settings come from INFLIGHT_* variables or a .env file.",
)
demo.register(app)
stack.register(app)
train.register(app)
retrain.register(app)
models.register(app)
features.register(app)
replay.register(app)
results.register(app)
dlq.register(app)
schemas.register(app)
worker.register(app)
monitoring.register(app)
dashboards.register(app)
watch.register(app)
redact.register(app)
watcher.register(app)
labels.register(app)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except ValueError as error:
        problems = _wrong_settings(error)
        if not problems:
            raise
        for problem in problems:
            typer.echo(f"error: {problem}", err=True)
        raise SystemExit(2) from None


def _wrong_settings(error: Exception) -> list[str]:
    """What is wrong with which setting, without its value, which may be a secret; nothing if the error is another."""
    # By their names: pydantic is not imported before a command runs.
    if type(error).__name__ == "SettingsError":
        return [str(error)]
    if type(error).__name__ != "ValidationError" or getattr(error, "title", "") != "Settings":
        return []
    found = []
    for one in error.errors(include_url=False, include_context=False, include_input=False):  # type: ignore[attr-defined]
        name = f"INFLIGHT_{one['loc'][0]}: ".upper() if one["loc"] else ""
        found.append(name + one["msg"].removeprefix("Value error, "))
    return found


if __name__ == "__main__":
    main()
