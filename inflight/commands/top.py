"""`inflight top`: the state of the stream in the terminal."""

from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import exit_with
from inflight.rendering import print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from monitoring.top.overview import Overview

_URLS = "URL, host:port or port of its metrics. Repeat it for several. By default the port in the settings."


app = typer.Typer()


@app.command(
    epilog="Examples: [bold]inflight top[/bold], [bold]inflight top --once --json[/bold], "
    "[bold]inflight top --worker 9101 --worker 9111 --prometheus http://127.0.0.1:9090[/bold]. "
    "With --once, exit code 1 if there is a warning."
)
def top(
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between refreshes.")] = 2.0,
    window: Annotated[float, typer.Option(min=0.2, help="Window for rates and latencies, in seconds.")] = 15.0,
    once: Annotated[bool, typer.Option("--once", help="Poll twice, print and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per refresh.")] = False,
    worker: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help=_URLS)] = None,
    exporter: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="Likewise, of an exporter.")] = None,
    indexer: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="Likewise, of an indexer.")] = None,
    drift_monitor: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Likewise, of a drift monitor.")
    ] = None,
    label_joiner: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Likewise, of a label joiner.")
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option(metavar="URL", help="Also show the alerts of this Prometheus.")
    ] = None,
) -> None:
    """Show throughput, outcomes, latency, lag, dead letters, drift and alerts in the terminal, without a server.

    Reads the metrics endpoints of the processes. If a process does not run, its section is missing.
    """
    import time

    from inflight.settings import load_settings
    from monitoring.top.reading import OverviewReader
    from monitoring.top.sources import Sources, endpoints, url_of

    given = {"worker": worker, "exporter": exporter, "indexer": indexer}
    given |= {"drift-monitor": drift_monitor, "label-joiner": label_joiner}
    settings = load_settings()
    try:
        addresses = {name: found for name, found in given.items() if found}
        urls = endpoints(settings.metrics_host, settings.metrics_ports, addresses)
        server = None if prometheus is None else url_of(prometheus).removesuffix("/metrics")
    except ValueError as error:
        raise exit_with(error) from error
    sources, reader = Sources(urls, server), OverviewReader(window)

    def poll() -> "Overview":
        return reader.poll(sources.scrape(), sources.alerts())

    try:
        first = poll()
        if once:
            time.sleep(interval)
            found = poll()
            _print(found, as_json)
            raise typer.Exit(1 if found.warnings else 0)
        if as_json:
            _print(first, as_json)
            while True:
                time.sleep(interval)
                _print(poll(), as_json)
        _live(poll, first, interval)
    except KeyboardInterrupt:
        pass
    finally:
        sources.close()


def _print(found: "Overview", as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from monitoring.top.screen import render

    console = Console()
    # Everything: it need not fit onto a screen.
    everything = 30 + len(found.warnings) + 2 * (len(found.models) + len(found.lags)) + 2 * len(found.drift)
    console.print(render(found, [], console.width, everything))


def _live(poll: "Callable[[], Overview]", first: "Overview", interval: float) -> None:
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
            found = poll()
