"""The archive of a demo: a SQLite file, new for each run."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from inflight.demo.processes import Process
from inflight.supervisor.specs import missing_extra


class DemoArchive:
    """The process and its file. Without the extra `archive` there is none.

    Args:
        home: of the demo.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / "archive.sqlite"
        self.is_installed = not missing_extra("archive")

    def process(self, directory: Path, environment: Mapping[str, str]) -> list[Process]:
        """The process, not yet started; none without the extra."""
        if not self.is_installed:
            return []
        for suffix in ("", "-wal", "-shm"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
        variables = {**environment, "INFLIGHT_ARCHIVE_URL": f"sqlite:///{self._file}"}
        return [Process("archive", "archive", directory, variables)]

    def count(self) -> int | None:
        """The requests in it; None without the extra."""
        if not self.is_installed:
            return None
        with closing(sqlite3.connect(self._file)) as connection:
            (found,) = connection.execute("SELECT COUNT(*) FROM predictions").fetchone()
            return int(found)
