"""`inflight run`: every process of a deployment on this machine, supervised."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from inflight.errors import exit_with, exits

if TYPE_CHECKING:
    from inflight.settings import Settings

app = typer.Typer()


@app.command(
    epilog="Examples: [bold]inflight run[/bold], [bold]inflight run fraud.toml --workers 2 --without archive[/bold], "
    "[bold]INFLIGHT_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 inflight run[/bold]. There has to be a model: "
    "[bold]inflight train diamonds[/bold], or [bold]inflight adopt fraud.joblib --sample orders.csv --write[/bold]. "
    "Exit code 2: a process can't start; its log says why."
)
def run(
    declarations: list[Path] = typer.Argument(
        None,
        metavar="[DECLARATION.toml]...",
        help="Adopted models that have to be served as these files declare them; others are served as well.",
    ),
    workers: int = typer.Option(1, min=1, max=64, help="Number of workers."),
    without: list[str] = typer.Option([], "--without", metavar="PROCESS", help="Leave a process out, such as archive."),
    stack: Literal["embedded", "real"] | None = typer.Option(
        None, help="Start this stack, whatever the settings say: one small process, or Kafka and Elasticsearch."
    ),
) -> None:
    """Start every process of a deployment on this machine, and start again what ends, until Ctrl-C or SIGTERM.

    These are workers, gateway with console, indexer, exporter, drift monitor, label joiner, rollout controller and
    archive, with the logs of all on standard error. The broker and Elasticsearch are those of the settings, or those
    that `inflight up` started. Without them, the embedded stack is started as well, and keeps its data in
    INFLIGHT_HOME.
    """
    import asyncio
    import os
    import sys

    from inflight.settings import load_settings
    from inflight.stack.process import StackError
    from inflight.supervisor.backing import backing
    from inflight.supervisor.managed import NotStarted
    from inflight.supervisor.output import SUPERVISOR, Output
    from inflight.supervisor.specs import PROCESSES, deployment, missing_extra
    from inflight.supervisor.supervisor import Supervisor
    from machine_learning_engineering.core.extras import install_command
    from machine_learning_engineering.observability.logging import configure_logging
    from machine_learning_engineering.settings import http_url

    if unknown := sorted(set(without) - set(PROCESSES)):
        raise exit_with(f"--without {unknown[0]}: there is no such process; there are {', '.join(PROCESSES)}")
    settings = load_settings()
    configure_logging(SUPERVISOR, settings)
    _require_model(settings)
    _require_declared(settings, declarations or ())
    text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    kinds = [kind for kind in PROCESSES if kind not in without and (kind != "retrainer" or _retrains(settings))]
    left_out = [kind for kind in kinds if missing_extra(kind)]
    kinds = [kind for kind in kinds if kind not in left_out]
    common = {"INFLIGHT_HOME": str(settings.home.absolute()), "INFLIGHT_LOG_FORMAT": "text" if text else "ecs"}
    with exits(StackError), backing(settings, stack) as found:
        specs = deployment(found.settings, found.environment | common, kinds, workers)
        colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        output = Output([spec.name for spec in specs], text=text, colours=colours)
        output.event(f"on {found.summary}", "started", nodes=found.summary)
        for kind in left_out:
            output.event(f"without {kind}: {install_command(kind)}", "left_out", left_out=kind)
        console = http_url(settings.gateway_host, settings.gateway_port)
        ready = f"Console: {console}" if "gateway" in kinds else "Stop with Ctrl-C."
        try:
            asyncio.run(Supervisor(specs, found.nodes, output, ready).run())
        except NotStarted as error:
            raise exit_with(f"{error} can't start: its log above says why") from error


def _retrains(settings: "Settings") -> bool:
    """Whether a model has a retraining policy."""
    from machine_learning_engineering.policies import InvalidPolicies, load_policies

    with exits(InvalidPolicies):
        return any(policy.retraining is not None for policy in load_policies(settings).values())


def _require_declared(settings: "Settings", paths: Sequence[Path]) -> None:
    """Fail at once where a file was edited, or its model is not served."""
    from machine_learning_engineering.declaration.reading import InvalidDeclaration, parse_declaration
    from machine_learning_engineering.registry.manifest import RegistryError
    from machine_learning_engineering.registry.registry import Registry

    registry = Registry(settings.registry_dir)
    for path in paths:
        with exits(InvalidDeclaration, RegistryError, OSError):
            wanted = parse_declaration(path.read_bytes(), str(path))
            name = wanted.model.name
            champion = registry.champions().get(name)
            saved = None if champion is None else registry.declaration(name, champion)
            same = saved is not None and parse_declaration(saved, f"the declaration of {name} {champion}") == wanted
        if not same:
            what = f"`{name}` is not served as {path} declares it" if champion else f"there is no champion of `{name}`"
            raise exit_with(f"{what}: run `inflight adopt {path} --write --promote` first")


def _require_model(settings: "Settings") -> None:
    """Fail at once where there is nothing to serve."""
    from machine_learning_engineering.registry.manifest import RegistryError
    from machine_learning_engineering.registry.registry import Registry
    from model.catalog import available

    with exits(RegistryError):
        champions = Registry(settings.registry_dir).champions()
    if not set(champions) & set(available()):
        raise exit_with(
            f"there is no trained model in {settings.registry_dir}: run `inflight train diamonds` or "
            "`inflight adopt MODEL --write` first"
        )
