"""Lines of a body that comes in pieces, in bounded memory. Pure."""

from collections.abc import Iterator

from msgspec import Struct


class Line(Struct, frozen=True):
    """A line without its end; `content` is None if it is too long. Numbers begin at 1, as in editors."""

    number: int
    content: bytes | None


class Lines:
    """Splits pieces into lines. Keeps at most one line that is not complete.

    Args:
        max_bytes: of a line; the bytes of a longer one are dropped as they come.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._begun = bytearray()
        self._too_long = False
        self._number = 0

    def feed(self, piece: bytes) -> Iterator[Line]:
        """The lines that this piece completes; blank ones are counted and left out."""
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            self._keep(piece[start:end])
            start = end + 1
            yield from self._complete()
        self._keep(piece[start:])

    def end(self) -> Iterator[Line]:
        """The last line, if it has no end of its own."""
        if self._begun or self._too_long:
            yield from self._complete()

    def _keep(self, part: bytes) -> None:
        if self._too_long or len(self._begun) + len(part) > self._max_bytes:
            self._too_long = True
            self._begun.clear()
        else:
            self._begun += part

    def _complete(self) -> Iterator[Line]:
        self._number += 1
        content = None if self._too_long else bytes(self._begun)
        self._begun.clear()
        self._too_long = False
        if content is None or (not content.isspace() and content):
            yield Line(self._number, content)
