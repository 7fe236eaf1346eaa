"""What `inflight run` prints: the service logs of all processes, and its own events among them."""

import sys
from collections.abc import Sequence
from typing import TextIO

from inflight.rendering import render_line
from machine_learning_engineering.observability.logging import log_event

SUPERVISOR = "run"
"""Its name in the service log."""
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_LINE_CHARACTERS = 10_000


class Output:
    """Lines of several processes, each after the name of its process; as JSON, each as it is.

    Args:
        names: of the processes.
        text: for a person; else for a machine, as ECS JSON.
        colours: of the names.
    """

    def __init__(self, names: Sequence[str], *, text: bool, colours: bool, stream: TextIO | None = None) -> None:
        self._text = text
        self._stream = sys.stderr if stream is None else stream
        width = max(map(len, (SUPERVISOR, *names)))
        self._prefixes = {}
        for number, name in enumerate((SUPERVISOR, *names)):
            shown = f"{name:<{width}} │ "
            self._prefixes[name] = f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{shown}\x1b[0m" if colours else shown

    def line(self, name: str, line: bytes) -> None:
        """A line of a process."""
        text = line.decode(errors="replace")
        self._print(self._prefixes[name] + render_line(text, _LINE_CHARACTERS) if self._text else text)

    def event(self, message: str, event: str, process: str = SUPERVISOR, **fields: object) -> None:
        """Something that happened to a process: a sentence for a person, fields for a machine."""
        if self._text:
            self._print(self._prefixes[process] + message)
        else:
            log_event(SUPERVISOR, event, **({} if process == SUPERVISOR else {"child": process}), **fields)

    def _print(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()
