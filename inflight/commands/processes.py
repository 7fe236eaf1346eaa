"""`inflight indexer`, `inflight exporter` and `inflight audit`: what became of the requests."""

from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import stopped

if TYPE_CHECKING:
    from monitoring.audit.audit import Audit


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(
        "indexer",
        help="Bring logs, drift, live quality, dead letters and model events into Elasticsearch, until SIGTERM.",
        epilog="Example: [bold]INFLIGHT_ELASTICSEARCH_URL=http://search:9200 inflight indexer[/bold]. "
        "Run several: they share the partitions. It waits for an Elasticsearch that is away; nothing is lost.",
    )(indexer)
    app.command(
        "exporter",
        help="Serve Prometheus metrics, counted from logs and dead letters, until SIGTERM.",
        epilog="Example: [bold]INFLIGHT_EXPORTER_METRICS_PORT=9103 inflight exporter[/bold], "
        "then [bold]curl http://127.0.0.1:9103/metrics[/bold].",
    )(exporter)
    app.command(
        "audit",
        help="Count from the topics and the index whether every accepted request has exactly one visible outcome.",
        epilog="Examples: [bold]inflight audit[/bold], [bold]inflight audit --json --prefix nightly-[/bold] "
        "of what [bold]inflight replay --id-prefix nightly[/bold] published. "
        "Exit code 1 if anything is lost or answered twice, or if there is no request at all. "
        "Requests still under way count as lost: wait for them.",
    )(audit)


def indexer() -> None:
    """Run one indexer."""
    from machine_learning_engineering.observability import logging as service_log
    from machine_learning_engineering.settings import load_settings
    from monitoring.indexer import process as room

    settings = load_settings()
    service_log.configure_logging("indexer", settings)
    try:
        room.run(settings)
    except Exception as error:
        raise stopped(error, port="INFLIGHT_INDEXER_METRICS_PORT") from error


def exporter() -> None:
    """Run one exporter."""
    from machine_learning_engineering.observability import logging as service_log
    from machine_learning_engineering.settings import load_settings
    from monitoring.exporter import process as room

    settings = load_settings()
    service_log.configure_logging("exporter", settings)
    try:
        room.run(settings)
    except Exception as error:
        raise stopped(error, port="INFLIGHT_EXPORTER_METRICS_PORT") from error


def audit(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    prefix: Annotated[str, typer.Option(metavar="ID_PREFIX", help="Only request ids that start with this.")] = "",
    index: Annotated[bool, typer.Option("--index/--no-index", help="Whether to read the index too.")] = True,
) -> None:
    """Audit the deployment as it is now."""
    import msgspec
    from rich.console import Console

    from machine_learning_engineering.settings import load_settings
    from monitoring.audit.readers import take_audit

    # A spinner where standard error is a terminal, nothing elsewhere.
    with Console(stderr=True).status("Reading") as status:
        try:
            found = take_audit(
                load_settings(), prefix, index=index, progress=lambda reading: status.update(f"Reading {reading}")
            )
        except Exception as error:
            raise stopped(error) from error
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        _print(found)
    if not found.accepted:
        whose = f" whose id begins with {prefix}" if prefix else ""
        typer.echo(f"error: there is no request{whose}: nothing was shown", err=True)
    raise typer.Exit(0 if found.kept and found.accepted else 1)


def _print(found: "Audit") -> None:
    import msgspec

    for name, value in msgspec.structs.asdict(found).items():
        typer.echo(f"{name:<19}{'-' if value is None else f'{value:,}':>14}")
    verdict = "kept: one outcome each" if found.kept else f"BROKEN: {found.lost:,} lost, {found.duplicates:,} twice"
    typer.echo(f"{'promise':<19}{verdict}")
