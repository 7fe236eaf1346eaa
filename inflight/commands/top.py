"""`inflight watch`: the stream at a glance, in a terminal."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from monitoring.top.overview import Overview

_URLS = "URL, host:port or port of its metrics; again for several of them. The settings' port by default."


def register(app: typer.Typer) -> None:
    """Add the command of this file to `app`."""
    app.command(
        "watch",
        epilog="Examples: [bold]inflight watch[/bold], [bold]inflight watch --once --json[/bold], "
        "[bold]inflight watch --worker 9101 --worker 9111 --prometheus http://127.0.0.1:9090[/bold]. "
        "With --once, exit code 1 if there is anything that a person should look at.",
    )(watch)


def watch(
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    window: Annotated[float, typer.Option(min=0.2, help="Seconds that rates and latencies look back.")] = 15.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, an interval apart, print it and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a look; without --once until Ctrl-C.")
    ] = False,
    worker: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help=_URLS)] = None,
    exporter: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="The same of an exporter.")] = None,
    indexer: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="The same of an indexer.")] = None,
    watcher: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="The same of a watcher.")] = None,
    joiner: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="The same of a joiner.")] = None,
    prometheus: Annotated[
        str | None, typer.Option(metavar="URL", help="A Prometheus, whose alerts are shown too.")
    ] = None,
) -> None:
    """Watch throughput, outcomes, latency, lag, dead letters, drift and alerts, live, without any server.

    Reads the metrics that the processes serve. Each of them may be missing: then what it tells of is.
    """
    import time

    from inflight.settings import load_settings
    from monitoring.top.reading import Watch
    from monitoring.top.sources import Sources, endpoints, url_of

    given = {"worker": worker, "exporter": exporter, "indexer": indexer, "watcher": watcher, "joiner": joiner}
    try:
        urls = endpoints(load_settings(), {name: found for name, found in given.items() if found})
        server = None if prometheus is None else url_of(prometheus).removesuffix("/metrics")
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    sources, seen = Sources(urls, server), Watch(window)

    def look() -> "Overview":
        return seen.look(sources.scrape(), sources.alerts())

    try:
        first = look()
        if once:
            time.sleep(interval)
            found = look()
            _print(found, as_json)
            raise typer.Exit(1 if found.problems else 0)
        if as_json:
            _print(first, as_json)
            while True:
                time.sleep(interval)
                _print(look(), as_json)
        _live(look, first, interval)
    except KeyboardInterrupt:
        pass
    finally:
        sources.close()


def _print(found: "Overview", as_json: bool) -> None:
    import msgspec

    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    from rich.console import Console

    from monitoring.top.screen import render

    console = Console()
    # All there is: nobody has to fit it onto a screen.
    everything = 30 + len(found.problems) + 2 * (len(found.models) + len(found.lags)) + 2 * len(found.drift)
    console.print(render(found, [], console.width, everything))


def _live(look: "Callable[[], Overview]", first: "Overview", interval: float) -> None:
    """Draw until Ctrl-C."""
    import time
    from collections import deque

    from rich.console import Console
    from rich.live import Live

    from monitoring.top.screen import render

    console = Console()
    history: deque[float] = deque(maxlen=500)
    found = first
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            if found.per_second is not None:
                history.append(found.per_second)
            live.update(render(found, list(history), console.width, console.height), refresh=True)
            time.sleep(interval)
            found = look()
