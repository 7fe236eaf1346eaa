"""`inflight up`, `down`, `status` and `doctor`: the broker and search node on this machine."""

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
