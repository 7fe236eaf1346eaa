"""`inflight up`, `down`, `status` and `doctor`: broker and Elasticsearch on this machine."""

import shlex
from typing import TYPE_CHECKING, Literal

import typer

from inflight.errors import FAILED, exits
from inflight.rendering import print_json

if TYPE_CHECKING:
    from inflight.settings import Settings
    from inflight.stack.stack import Endpoints, Kind, StackState

JSON = typer.Option(False, "--json", help="Print one JSON object.")
STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


app = typer.Typer()


@app.command(
    epilog='Examples: [bold]eval "$(inflight up)"[/bold], [bold]inflight up --stack real --kafka-port 19092[/bold]'
)
def up(
    stack: Literal["embedded", "real"] | None = typer.Option(
        None,
        help="One small process for demos (needs the extra `embedded`), or Kafka and Elasticsearch (need Java, Maven). "
        "By default the stack that runs, or embedded.",
    ),
    kafka_port: int | None = typer.Option(
        None, min=1, max=65_535, help="By default the port in the settings, or 9092."
    ),
    elasticsearch_port: int | None = typer.Option(
        None, min=1, max=65_535, help="By default the port in the settings, or 9200."
    ),
    as_json: bool = JSON,
) -> None:
    """Start a broker and Elasticsearch on this machine and create the topics. They keep running until `inflight down`.

    Standard output has the settings that point the other commands at them, for `eval "$(inflight up)"`. If they run
    already, it only prints the settings.
    """
    from rich.console import Console

    from inflight.settings import load_settings
    from inflight.stack.process import StackError
    from inflight.stack.stack import StackState, start_stack
    from inflight.stack.status import with_endpoints
    from machine_learning_engineering.kafka.client import create_topics

    settings = load_settings()
    with exits(StackError):
        running = StackState.load(settings.home)
        stack = stack or (running.kind if running is not None else "embedded")
        if running is not None and not _is_usable(running, stack):
            # One of its nodes has exited: stop the others and start all again on their data.
            running.stop()
            running = None
        if running is not None:
            _require_same("--kafka-port", kafka_port, running.endpoints.kafka_bootstrap_servers)
            _require_same("--elasticsearch-port", elasticsearch_port, running.endpoints.elasticsearch_url)
        else:
            kafka_port = kafka_port or _local_port(settings.kafka_bootstrap_servers) or 9092
            elasticsearch_port = elasticsearch_port or _local_port(settings.elasticsearch_url) or 9200
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
    # With the home, so that commands find models and topics in any current folder.
    environment = endpoints.environment | {"INFLIGHT_HOME": str(settings.home.absolute())}
    if as_json:
        print_json({"kind": running.kind, **endpoints._asdict(), "topics_created": created, "env": environment})
        return
    # Text for humans goes to standard error: a shell evaluates standard output.
    typer.echo(f"The {running.kind} stack is up. Stop it with `inflight down`.", err=True)
    typer.echo(f"  broker         {endpoints.kafka_bootstrap_servers}", err=True)
    typer.echo(f"  Elasticsearch  {endpoints.elasticsearch_url}", err=True)
    if _unknown_to(settings, endpoints):
        typer.echo('Every terminal needs these settings: eval "$(inflight up)" sets them.', err=True)
    for variable, value in environment.items():
        typer.echo(f"export {variable}={shlex.quote(value)}")


@app.command(epilog="Example: [bold]inflight down[/bold]")
def down(as_json: bool = JSON) -> None:
    """Stop the broker and Elasticsearch that `up` started. Their data stays."""
    from inflight.settings import load_settings
    from inflight.stack.process import StackError
    from inflight.stack.stack import StackState

    settings = load_settings()
    state = StackState.load(settings.home)
    stopped = [node.name for node in state.nodes if node.is_alive()] if state else []
    with exits(StackError):
        if state is not None:
            state.stop()
        StackState.forget(settings.home)
    if as_json:
        print_json({"stopped": stopped})
    else:
        typer.echo(f"Stopped {', '.join(stopped)}." if stopped else f"No stack runs in {settings.home}.")


@app.command(epilog="Example: [bold]inflight status --json[/bold]")
def status(as_json: bool = JSON) -> None:
    """Show whether broker and Elasticsearch respond, the records of each topic and the documents of each index.

    Exit code 1 if the broker does not respond, or a node that `up` started has exited.
    """
    from inflight.settings import load_settings
    from inflight.stack.stack import StackState
    from inflight.stack.status import read_status

    settings = load_settings()
    found = read_status(settings)
    healthy = found["broker"]["reachable"] and all(node["alive"] for node in found["nodes"])
    if as_json:
        print_json(found)
        raise typer.Exit(0 if healthy else FAILED)
    for node in found["nodes"]:
        where = ", ".join(node["endpoints"].values())
        health = "runs" if node["alive"] else f"HAS EXITED, see {node['log']}"
        typer.echo(f"{node['name']:<14} pid {node['pid']}, {health}, {where}")
    for role, address in (("broker", "bootstrap_servers"), ("elasticsearch", "url")):
        typer.echo(f"{role:<14} {found[role][address]} {'responds' if found[role]['reachable'] else 'UNREACHABLE'}")
    for title, counts in (("records", found["topics"]), ("documents", found["indices"])):
        for name, count in (counts or {}).items():
            typer.echo(f"{name:<40} {'missing' if count is None else f'{count:,} {title}'}")
    state = StackState.load(settings.home)
    if state is not None and state.is_alive():
        if _unknown_to(settings, state.endpoints):
            hint = 'The settings of this terminal point elsewhere: eval "$(inflight up)" changes them.'
            typer.echo(hint, err=True)
    elif not (found["broker"]["reachable"] and found["elasticsearch"]["reachable"]):
        typer.echo("`inflight up` starts a broker and Elasticsearch on this machine.", err=True)
    raise typer.Exit(0 if healthy else FAILED)


@app.command(epilog="Example: [bold]inflight doctor[/bold]")
def doctor(as_json: bool = JSON) -> None:
    """Check that this machine has what Inflight needs. Each finding that is not ok has its fix.

    Exit code 1 if a check fails.
    """
    from inflight.settings import load_settings
    from inflight.stack.doctor import examine

    checks = []
    for check in examine(load_settings()):
        checks.append(check)
        if not as_json:
            mark = typer.style(f"{check.status:<5}", fg=STYLES[check.status])
            typer.echo(f"{mark} {check.name:<22} {check.found}" + (f"\n{'':<28} fix: {check.fix}" if check.fix else ""))
    healthy = all(check.status != "fail" for check in checks)
    if as_json:
        print_json({"healthy": healthy, "checks": [check._asdict() for check in checks]})
    if not healthy:
        raise typer.Exit(FAILED)


def _is_usable(running: "StackState", wanted: "Kind") -> bool:
    """Whether all nodes of a stack run; a running stack of another kind is an error."""
    from inflight.stack.process import StackError

    if not any(node.is_alive() for node in running.nodes):
        return False
    if running.kind != wanted:
        raise StackError(f"the {running.kind} stack is up: `inflight down` first, or use --stack {running.kind}")
    return running.is_alive()


def _local_port(address: str) -> int | None:
    """The port of `host:port` or of a URL on this machine; None for another machine, or for several servers."""
    from urllib.parse import urlsplit

    try:
        found = urlsplit(address if "://" in address else f"//{address}")
        return found.port if found.hostname in ("127.0.0.1", "localhost") else None
    except ValueError:
        return None


def _unknown_to(settings: "Settings", endpoints: "Endpoints") -> bool:
    """Whether commands with these settings would use other nodes, or poll the embedded one without a pause."""
    return any(getattr(settings, name) != value for name, value in endpoints._asdict().items())


def _require_same(option: str, wanted: int | None, address: str) -> None:
    from inflight.stack.process import StackError

    if wanted is not None and wanted != _local_port(address):
        raise StackError(f"the stack is up at {address}: `inflight down` first, or leave {option} out")


def _require_free(option: str, port: int) -> None:
    from inflight.stack.process import StackError, is_listening

    if is_listening(port):
        raise StackError(f"port {port} is in use: stop the program that uses it, or choose another port with {option}")
