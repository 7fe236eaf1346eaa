"""SQLite files that threads and processes share."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine_learning_engineering.core import files


def connect(path: Path, *, timeout: float = 30.0) -> sqlite3.Connection:
    """Open a database in WAL mode. It and its folder are created if they are missing.

    Transactions are explicit, see `transaction`. Each is on disk once it is committed: it survives a crash of the
    machine.

    Args:
        path: The file; SQLite keeps two more next to it. It must not be on a network file system.
        timeout: Seconds that a write waits for other processes.

    Raises:
        OSError: The folder or the file cannot be created.
        sqlite3.Error: The file cannot be opened or is not a database.
    """
    files.make_folder(path.parent)
    if not path.exists():
        # SQLite gives the files beside it the same mode.
        os.close(files.open_private(path, os.O_RDWR | os.O_CREAT))
    connection = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
    deadline = time.monotonic() + timeout
    try:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                return connection
            except sqlite3.OperationalError as error:
                # SQLite does not wait here while another process switches a new file to WAL.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
    except BaseException:
        connection.close()
        raise


@contextmanager
def transaction(connection: sqlite3.Connection, lock: threading.Lock) -> Iterator[sqlite3.Connection]:
    """Run a block as one write transaction of one thread at a time; roll it back if the block raises."""
    with lock:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
