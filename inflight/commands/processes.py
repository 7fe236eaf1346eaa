"""The processes: `inflight worker`, `gateway`, `indexer`, `exporter`, `drift-monitor`,
`label-joiner`, `rollout-controller`, `retrainer` and `archive`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from inflight.errors import exits

if TYPE_CHECKING:
    from inflight.settings import Settings


class _Process(NamedTuple):
    run: Callable[[], None]
    help: str
    epilog: str


def _configured(name: str) -> "Settings":
    """The settings, with the service log of the process configured."""
    from inflight.settings import load_settings
    from machine_learning_engineering.observability.logging import configure_logging

    settings = load_settings()
    configure_logging(name, settings)
    return settings


def _worker() -> None:
    from stream_app.worker import main

    main()


def _indexer() -> None:
    from monitoring.indexer.process import run

    run(_configured("indexer"))


def _exporter() -> None:
    from machine_learning_engineering.registry.sources import RegistrySources
    from monitoring.exporter.process import run

    settings = _configured("exporter")
    run(settings, RegistrySources(settings).topics)


def _drift_monitor() -> None:
    from monitoring.drift.process import run

    run(_configured("drift-monitor"))


def _label_joiner() -> None:
    from inflight.adapters.evaluator import RegistryEvaluator
    from monitoring.labels.process import run

    settings = _configured("label-joiner")
    run(settings, RegistryEvaluator(settings))


def _missing(error: ModuleNotFoundError, extra: str) -> typer.Exit:
    from inflight.errors import exit_with
    from machine_learning_engineering.core.extras import install_command

    return exit_with(f"{error.name} is not installed: {install_command(extra)}")


def _archive(migrate: bool = False) -> None:
    from inflight.errors import exit_with

    settings = _configured("archive")
    try:
        from monitoring.archive.database import ArchiveError
        from monitoring.archive.process import migrate as upgrade
        from monitoring.archive.process import run
    except ModuleNotFoundError as error:
        raise _missing(error, "archive") from None
    try:
        (upgrade if migrate else run)(settings)
    except ArchiveError as error:
        raise exit_with(error) from error


def _rollout_controller() -> None:
    from inflight.adapters.rollout_evidence import judge, open_evidence
    from monitoring.rollout.process import run

    settings = _configured("rollout-controller")
    run(settings, open_evidence(settings), judge)


def _retrainer() -> None:
    from inflight.adapters.retrainer import starter
    from inflight.errors import exit_with
    from inflight.retrainer.process import run
    from machine_learning_engineering.policies import InvalidPolicies

    settings = _configured("retrainer")
    try:
        run(settings, starter(settings))
    except InvalidPolicies as error:
        raise exit_with(error) from error


def _gateway() -> None:
    from inflight.errors import exit_with

    settings = _configured("gateway")
    try:
        from inflight.adapters.console import BrokerLags, IndexLogbook
        from inflight.adapters.history import IndexHistory
        from producers.gateway.access import Unprotected
        from producers.gateway.console.sources import ConsoleSources
        from producers.gateway.keys import KeysError
        from producers.gateway.process import run
        from producers.gateway.server import PortInUse
    except ModuleNotFoundError as error:
        raise _missing(error, "gateway") from None
    try:
        run(settings, IndexHistory(settings), ConsoleSources(BrokerLags(settings), IndexLogbook(settings)))
    except (Unprotected, KeysError, PortInUse) as error:
        raise exit_with(error) from error


_SHARED = "Start several: they share the partitions."
_PROCESSES = {
    "worker": _Process(
        _worker,
        "Score requests with the champion of each model until SIGTERM, then finish the requests in flight.",
        f"Example: [bold]inflight worker[/bold]. {_SHARED} "
        "Exit code 70 means a bug or a stalled partition: let a supervisor restart it, nothing is lost.",
    ),
    "gateway": _Process(
        _gateway,
        "Serve predictions over HTTP until SIGTERM, then let open requests end.",
        "Example: [bold]inflight gateway[/bold], then [bold]curl http://127.0.0.1:8080/v1/models[/bold]. "
        "The console is "
        "at http://127.0.0.1:8080, the documentation of all routes at /docs. Start several behind one address: any of "
        "them answers for all.",
    ),
    "indexer": _Process(
        _indexer,
        "Write logs, drift, live quality, dead letters and model events to Elasticsearch until SIGTERM.",
        f"Example: [bold]INFLIGHT_ELASTICSEARCH_URL=http://search:9200 inflight indexer[/bold]. {_SHARED} "
        "While Elasticsearch is unavailable it retries; nothing is lost.",
    ),
    "exporter": _Process(
        _exporter,
        "Serve Prometheus metrics, counted from logs and dead letters, until SIGTERM.",
        "Example: [bold]INFLIGHT_EXPORTER_METRICS_PORT=9103 inflight exporter[/bold], "
        "then [bold]curl http://127.0.0.1:9103/metrics[/bold].",
    ),
    "drift-monitor": _Process(
        _drift_monitor,
        "Compare windows of logged requests with the training data of their model version until SIGTERM.",
        "Example: [bold]INFLIGHT_DRIFT_WINDOW_ROWS=500 inflight drift-monitor[/bold], "
        f"then [bold]inflight drift show diamonds[/bold]. {_SHARED} "
        "It reads the reference profiles from the registry in INFLIGHT_HOME.",
    ),
    "label-joiner": _Process(
        _label_joiner,
        "Join labels to logged requests and measure live quality until SIGTERM.",
        "Example: [bold]inflight label-joiner[/bold], then [bold]inflight labels replay diamonds[/bold]. "
        f"{_SHARED} Labels that arrive before their request wait in Elasticsearch; while it is unavailable it retries.",
    ),
    "rollout-controller": _Process(
        _rollout_controller,
        "Move open rollouts by their evidence until SIGTERM: widen, promote, refuse, roll back.",
        "Example: [bold]inflight rollout-controller[/bold], then [bold]inflight rollout start diamonds:v3[/bold] and "
        "[bold]inflight rollout show --watch[/bold]. Start several: each step is taken once, by one of them.",
    ),
    "retrainer": _Process(
        _retrainer,
        "Retrain what the policies say is due, and start its rollout, until SIGTERM.",
        "Example: [bold]INFLIGHT_POLICIES=inflight.toml inflight retrainer[/bold]. Start several on different "
        "machines: of them, one trains. A training that is killed is taken up again; the champion never notices.",
    ),
    "archive": _Process(
        _archive,
        "Write logs, labels and calls of the API to a SQL database until SIGTERM: PostgreSQL, or a SQLite file.",
        "Examples: [bold]inflight archive[/bold], then [bold]sqlite3 ~/.inflight/archive.sqlite .tables[/bold]; "
        "[bold]INFLIGHT_ARCHIVE_URL=postgresql://inflight:secret@db/inflight inflight archive[/bold]. "
        f"{_SHARED} While the database is unavailable it retries; nothing is lost. With [bold]--migrate[/bold] as a "
        "job of its own, the process needs no right to change tables.",
    ),
}


def _command(name: str, run: Callable[[], None]) -> Callable[[], None]:
    def command() -> None:
        with exits(port=f"INFLIGHT_{name.upper().replace('-', '_')}_METRICS_PORT"):
            run()

    return command


def _archive_command(
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Make the tables, or bring those of an older release up to date, and end.")
    ] = False,
) -> None:
    with exits(port="INFLIGHT_ARCHIVE_METRICS_PORT"):
        _archive(migrate)


app = typer.Typer()
for name, process in _PROCESSES.items():
    command = _archive_command if name == "archive" else _command(name, process.run)
    app.command(name, help=process.help, epilog=process.epilog)(command)
