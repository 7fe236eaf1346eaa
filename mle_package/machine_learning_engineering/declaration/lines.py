"""Lines of the keys in a TOML text, for error messages: its parser keeps none."""

import re

_HEADER = re.compile(r"\s*\[\[?\s*(?P<path>[^\[\]]+?)\s*\]\]?\s*(#.*)?\Z")
_KEY = re.compile(
    r"""\s*(?P<path>(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""\s*(?:([A-Za-z0-9_-]+)|"([^"]*)"|'([^']*)')\s*(?:\.|\Z)""")


def line_of(text: str, path: tuple[str, ...]) -> int | None:
    """The line, counted from 1, of a key, or else of the nearest key or table around it; None if there is none.

    An approximation: lines within a multi-line string or array may be taken for keys.
    """
    best: tuple[int, int] | None = None
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            found = table = _parts(header["path"])
        elif key := _KEY.match(line):
            found = table + _parts(key["path"])
        else:
            continue
        # A table is also where a key within it is.
        depth = min(len(found), len(path))
        if depth and path[:depth] == found[:depth] and (best is None or depth > best[0]):
            best = (depth, number)
    return None if best is None else best[1]


def _parts(path: str) -> tuple[str, ...]:
    return tuple(next(filter(None, part), "") for part in _PART.findall(path))
