"""Adds the manual page to the distributions, where `make man` has generated it."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGE = "man/inflight.1"


class ManualPage(BuildHookInterface):  # type: ignore[type-arg]
    """In a source distribution it is a file; in a wheel it goes to where `man` looks, below the environment."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds `self.target_name`."""
        page = Path(self.root) / PAGE
        if version == "editable" or not page.is_file():
            return
        if self.target_name == "sdist":
            build_data["force_include"][str(page)] = PAGE
        else:
            build_data["shared_data"][str(page)] = "share/man/man1/inflight.1"
