"""``python -m monitoring indexer | exporter | watcher``: one process of this room."""

import sys
from collections.abc import Callable

from machine_learning_engineering.observability import logging as service_log
from monitoring.settings import MonitoringSettings


def main(arguments: list[str]) -> int:
    """Run the process that is named; the exit code."""
    run: Callable[[MonitoringSettings], None]
    match arguments:
        case ["indexer"]:
            from monitoring.indexer.process import run
        case ["exporter"]:
            from monitoring.exporter.process import run
        case ["watcher"]:
            from monitoring.drift.process import run
        case _:
            sys.stderr.write("usage: python -m monitoring indexer | exporter | watcher\n")
            return 2
    settings = MonitoringSettings()
    service_log.configure_logging(arguments[0], settings)
    run(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
