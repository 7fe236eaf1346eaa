"""`inflight up`, `down`, `status` and `doctor`: the broker and search node on this machine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    from inflight.stack import Kind, StackState

KAFKA_PORT = 9092
ELASTICSEARCH_PORT = 9200
JSON = typer.Option(False, "--json", help="Print one JSON object for machines.")
STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(epilog="Example: inflight up --stack real --kafka-port 19092")(up)
    app.command(epilog="Example: inflight down")(down)
    app.command(epilog="Example: inflight status --json")(status)
    app.command(epilog="Example: inflight doctor")(doctor)


def up(
    stack: Literal["embedded", "real"] = typer.Option(
        "embedded", help="One small process, or Kafka and Elasticsearch."
    ),
    kafka_port: int = typer.Option(KAFKA_PORT, min=1, max=65_535),
    elasticsearch_port: int = typer.Option(ELASTICSEARCH_PORT, min=1, max=65_535),
    as_json: bool = JSON,
) -> None:
    """Start a broker and a search node, create the topics, and keep them up. Running it twice is fine."""
    from rich.console import Console

    from inflight.stack import StackState, start_stack
    from inflight.stack.status import with_endpoints
    from machine_learning_engineering.kafka import create_topics
    from machine_learning_engineering.settings import load_settings

    settings = load_settings()
    with _errors_named():
        running = StackState.load(settings.home)
        if running is not None and not _is_usable(running, stack):
            # One of its nodes has ended: the rest is stopped and all start again on their data.
            running.stop()
            running = None
        if running is None:
            _require_free("--kafka-port", kafka_port)
            _require_free("--elasticsearch-port", elasticsearch_port)
            with Console(stderr=True).status(f"Starting the {stack} stack (the first real one is downloaded) ..."):
                running = start_stack(
                    stack,
                    settings.home,
                    kafka_port=kafka_port,
                    elasticsearch_port=elasticsearch_port,
                    keep_running=True,
                ).state
        created = create_topics(with_endpoints(settings, running.endpoints))
    endpoints = running.endpoints
    if as_json:
        _print_json(
            {"kind": running.kind, **endpoints._asdict(), "topics_created": created, "env": endpoints.environment}
        )
        return
    typer.echo(f"The {running.kind} stack is up. Stop it with `inflight down`.")
    typer.echo(f"  broker       {endpoints.kafka_bootstrap_servers}")
    typer.echo(f"  search node  {endpoints.elasticsearch_url}")
    for variable, value in endpoints.environment.items():
        typer.echo(f"export {variable}={value}")


def down(as_json: bool = JSON) -> None:
    """Stop the broker and search node that `up` started. Their data stays."""
    from inflight.stack import StackState
    from machine_learning_engineering.settings import load_settings

    settings = load_settings()
    state = StackState.load(settings.home)
    stopped = [node.name for node in state.nodes if node.process_id.is_alive()] if state else []
    with _errors_named():
        if state is not None:
            state.stop()
        StackState.forget(settings.home)
    if as_json:
        _print_json({"stopped": stopped})
    else:
        typer.echo(f"Stopped {', '.join(stopped)}." if stopped else f"No stack of {settings.home} runs.")


def status(as_json: bool = JSON) -> None:
    """What runs, and how much it holds: nodes, records of each topic, documents of each index."""
    from inflight.stack.status import read_status
    from machine_learning_engineering.settings import load_settings

    found = read_status(load_settings())
    if as_json:
        _print_json(found)
        return
    for node in found["nodes"]:
        where = ", ".join(node["endpoints"].values())
        health = "runs" if node["alive"] else f"HAS ENDED, see {node['log']}"
        typer.echo(f"{node['name']:<14} pid {node['pid']}, {health}, {where}")
    for role, address in (("broker", "bootstrap_servers"), ("search", "url")):
        typer.echo(f"{role:<14} {found[role][address]} {'answers' if found[role]['reachable'] else 'DOES NOT ANSWER'}")
    for title, counts in (("records", found["topics"]), ("documents", found["indices"])):
        for name, count in (counts or {}).items():
            typer.echo(f"{name:<40} {'missing' if count is None else f'{count:,} {title}'}")


def doctor(as_json: bool = JSON) -> None:
    """Check that this machine has what Inflight needs; every finding that is not ok comes with its fix."""
    from inflight.stack.doctor import examine
    from machine_learning_engineering.settings import load_settings

    checks = []
    for check in examine(load_settings()):
        checks.append(check)
        if not as_json:
            mark = typer.style(f"{check.status:<5}", fg=STYLES[check.status])
            typer.echo(f"{mark} {check.name:<22} {check.found}" + (f"\n{'':<28} fix: {check.fix}" if check.fix else ""))
    healthy = all(check.status != "fail" for check in checks)
    if as_json:
        _print_json({"healthy": healthy, "checks": [check._asdict() for check in checks]})
    if not healthy:
        raise typer.Exit(1)


def _is_usable(running: "StackState", wanted: "Kind") -> bool:
    """Whether all nodes of a stack run; one of another kind than wanted is an error, so that no data is mixed up."""
    from inflight.stack import StackError

    if not any(node.process_id.is_alive() for node in running.nodes):
        return False
    if running.kind != wanted:
        raise StackError(f"the {running.kind} stack is up: `inflight down` first, or use --stack {running.kind}")
    return running.is_alive()


def _require_free(option: str, port: int) -> None:
    from inflight.stack import StackError
    from inflight.stack.process import is_listening

    if is_listening(port):
        raise StackError(f"port {port} is taken by another program: stop that, or choose another port with {option}")


@contextmanager
def _errors_named() -> Iterator[None]:
    """What the user can mend is a sentence on stderr, not a traceback."""
    from confluent_kafka import KafkaException

    from inflight.stack import StackError

    try:
        yield
    except StackError as error:
        typer.secho(f"Error: {error}", err=True, fg="red")
        raise typer.Exit(1) from None
    except KafkaException as error:
        typer.secho(f"Error: the broker refused: {error}. See `inflight status` and its log.", err=True, fg="red")
        raise typer.Exit(1) from None


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value))
