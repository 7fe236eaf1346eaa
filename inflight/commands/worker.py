"""`inflight worker`: the stream processor."""

import typer

from inflight.errors import stopped


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(
        "worker",
        help="Score requests with the champion of every model, until SIGTERM; then finish what is in flight.",
        epilog="Example: [bold]inflight worker[/bold]. Run several: they share the partitions. "
        "Exit code 70 means a bug or a stuck partition: let a supervisor restart it, nothing is lost.",
    )(worker)


def worker() -> None:
    """Run one worker."""
    from stream_app.worker import main

    try:
        main()
    except Exception as error:
        raise stopped(error, port="INFLIGHT_WORKER_METRICS_PORT") from error
