"""The archive of a demo: a SQLite file, new for each run."""

import sqlite3
from contextlib import closing
from pathlib import Path

from inflight.supervisor.specs import missing_extra


class DemoArchive:
    """Its file. Without the extra `archive` nobody writes one.

    Args:
        home: of the demo.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / "archive.sqlite"
        self.is_installed = not missing_extra("archive")
        """Whether the deployment has the process."""
        for suffix in ("", "-wal", "-shm"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """What the process needs to write it."""
        return {"INFLIGHT_ARCHIVE_URL": f"sqlite:///{self._file}"}

    def count(self) -> int | None:
        """The requests in it; None without the extra."""
        if not self.is_installed:
            return None
        with closing(sqlite3.connect(self._file)) as connection:
            (found,) = connection.execute("SELECT COUNT(*) FROM predictions").fetchone()
            return int(found)
