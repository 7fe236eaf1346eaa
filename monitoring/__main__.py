"""``python -m monitoring indexer | exporter``: one process of this room."""

import sys

from machine_learning_engineering.settings import load_settings


def main(arguments: list[str]) -> int:
    """Run the process that is named; the exit code."""
    match arguments:
        case ["indexer"]:
            from monitoring.indexer import run
        case ["exporter"]:
            from monitoring.exporter import run
        case _:
            sys.stderr.write("usage: python -m monitoring indexer | exporter\n")
            return 2
    run(load_settings())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
