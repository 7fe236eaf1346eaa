"""`python -m inflight.reference`: write the pages of docs/reference; with `--check`, only say which are out of date."""

import sys

from inflight.reference.pages import stale, write

if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        found = stale()
        sys.exit(f"out of date: {', '.join(found)}; run python -m inflight.reference" if found else 0)
    if sys.argv[1:]:
        sys.exit("usage: python -m inflight.reference [--check]")
    for path in write():
        print(path)  # noqa: T201
