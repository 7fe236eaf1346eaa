"""`inflight health`: whether a process of this machine or container responds, for health checks without curl."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import FAILED, exit_with
from inflight.rendering import print_json

if TYPE_CHECKING:
    from collections.abc import Collection

app = typer.Typer()
FIRST = Path("/proc/1/cmdline")
"""The command line of the first process, which in a container is the only one."""


@app.command(
    epilog="Examples: [bold]inflight health worker[/bold]; [bold]inflight health gateway --ready[/bold]; "
    "in a container, [bold]inflight health[/bold]. Exit code 0: it responds. 1: it does not, or is not ready."
)
def health(
    process: Annotated[
        str, typer.Argument(help="The process, such as worker; by default the one that a container was started with.")
    ] = "",
    ready: Annotated[
        bool, typer.Option(help="Ask whether it does its work: the worker has partitions, the gateway takes requests.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask a process of this machine whether it responds, at the port of its metrics."""
    import re

    from inflight.settings import load_settings
    from inflight.supervisor.specs import READY, metrics_url, serves

    settings = load_settings()
    name = process or started_with(FIRST, settings.metrics_ports)
    if name not in settings.metrics_ports:
        known = ", ".join(settings.metrics_ports)
        raise exit_with(f"{f'there is no process `{name}`' if name else 'name the process'}: there are {known}")
    url = metrics_url(settings, settings.metrics_ports[name])
    try:
        state = "ready" if serves(url, re.compile(READY.get(name, "") if ready else "")) else "not ready"
    except (OSError, ValueError) as error:
        state = f"{url} does not respond: {error}"
    healthy = state == "ready"
    said = state if ready or not healthy else "responds"
    if json:
        print_json({"process": name, "healthy": healthy, "state": said})
    else:
        typer.echo(f"{name}: {said}")
    raise typer.Exit(0 if healthy else FAILED)


def started_with(command_line: Path, known: "Collection[str]") -> str:
    """The first word of a command line that is one of `known`; empty if there is none, or it can't be read."""
    try:
        words = command_line.read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return next((word for word in words if word in known), "")
