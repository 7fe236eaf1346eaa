"""`inflight demo`: the whole product in one command."""

from typing import TYPE_CHECKING, Any, Literal

import typer

from inflight.errors import FAILED, exit_for
from inflight.rendering import print_json

if TYPE_CHECKING:
    from inflight.demo.run import Running


app = typer.Typer()


@app.command(
    epilog="Examples: [bold]inflight demo[/bold], [bold]inflight demo --stack real --json[/bold], "
    "[bold]inflight demo --stay[/bold]. It needs the extra `gateway`, and the embedded stack the extra `embedded`."
)
def demo(
    stack: Literal["embedded", "real"] = typer.Option(
        "embedded", help="One small process, or real Apache Kafka and Elasticsearch (need Java and Maven)."
    ),
    workers: int = typer.Option(2, min=1, max=16, help="Number of workers."),
    rate: float | None = typer.Option(None, min=1, help="Requests per second; as fast as possible by default."),
    limit: int | None = typer.Option(None, min=1, help="Maximum number of diamonds."),
    stay: bool = typer.Option(False, "--stay", help="Keep everything running afterwards, until Ctrl-C."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object, alone on the last line."),
) -> None:
    """Start everything, train, stream all diamonds and Titanic passengers with bad records among them, and count.

    A thousand more diamonds come over HTTP, through the gateway.

    The figures at the end are counted from the topics, the index and the archive. Exit code 1 if a request was lost,
    has two different outcomes, or was not indexed or archived.
    """
    from rich.console import Console

    from inflight.demo.run import DemoFailed, Options, run_demo
    from inflight.settings import load_settings
    from inflight.stack.process import StackError
    from machine_learning_engineering.datasets import DatasetUnavailable

    console = Console(stderr=True)
    settings = load_settings()
    # For a moment, any port will do; who stays is looked for at the usual one.
    options = Options(stack, workers, rate, limit, settings.gateway_port if stay else 0)
    try:
        with _Display(console) as report, run_demo(settings, options, report) as running:
            summary = summarize(running)
            report.step("Done")
            report.close()
            _print_table(console, summary, running)
            if stay:
                _stay(console, running)
    except (DemoFailed, StackError, DatasetUnavailable) as error:
        raise exit_for(error, DemoFailed, StackError, DatasetUnavailable) from None
    if as_json:
        print_json(summary)
    not_archived = summary["archived"] not in (None, summary["indexed_distinct"])
    if summary["lost"] or summary["duplicates"] or summary["unindexed"] or not_archived:
        raise typer.Exit(FAILED)


def summarize(running: "Running") -> dict[str, Any]:
    """The figures of a run, from its audit, and the number of requests in the archive."""
    audit = running.audit
    assert audit is not None
    names = (
        "accepted completed failed dead_letters results_seen indexed_distinct lost duplicates p50_ms p99_ms rate_per_s "
        "index_dead_letters repeats other_versions conflicts orphans unindexed"
    )
    found = {name: getattr(audit, name) for name in names.split()} | {"archived": running.archived}
    over_http = running.over_http
    assert over_http is not None
    found |= {f"http_{name}": getattr(over_http, name) for name in ("accepted", "completed", "p50_ms", "p99_ms")}
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}


class _Display:
    """Progress bars on a terminal, otherwise plain lines."""

    def __init__(self, console: Any) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "_Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._progress.stop()

    def step(self, text: str) -> None:
        self._console.print(f"[bold]>[/bold] {text}", highlight=False, soft_wrap=True)

    def count(self, **counts: int) -> None:
        for name, count in counts.items():
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name)
            self._progress.update(self._tasks[name], completed=count, total=max(counts["published"], 1))


def _print_table(console: Any, summary: dict[str, Any], running: "Running") -> None:
    from rich.table import Table

    table = Table("counted from topics, index and archive", "", show_edge=False)
    for name, value in summary.items():
        wrong = name in ("lost", "duplicates", "unindexed") and value
        shown = f"{value:,}" if isinstance(value, int | float) else str(value)
        table.add_row(name, f"[red]{shown}[/red]" if wrong else shown)
    console.print(table)
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in running.seconds.items())
    console.print(f"Took: {seconds}.", highlight=False, soft_wrap=True)


def _stay(console: Any, running: "Running") -> None:
    import shlex
    import signal

    console.print("\nEverything keeps running until Ctrl-C:")
    console.print(
        f"  gateway        http://127.0.0.1:{running.deployment.gateway_port}  (documentation: /docs)", highlight=False
    )
    console.print(f"  broker         {running.endpoints.kafka_bootstrap_servers}", highlight=False)
    console.print(f"  Elasticsearch  {running.endpoints.elasticsearch_url}", highlight=False)
    for name, url in running.deployment.metrics_urls.items():
        console.print(f"  {name:<14} {url}", highlight=False)
    console.print(f"  log            {running.deployment.log_path}", highlight=False, soft_wrap=True)
    for name, value in (running.endpoints.environment | {"INFLIGHT_HOME": str(running.settings.home)}).items():
        console.print(f"export {name}={shlex.quote(value)}", highlight=False, markup=False, soft_wrap=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("Stopping.")
