"""The database of the archive: its address, connections, transactions and schema."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from machine_learning_engineering.core import sqlite
from machine_learning_engineering.core.extras import install_command
from machine_learning_engineering.settings import redact_url

_VERSION_TABLE = "inflight_archive_version"
_LOCK = 0x1F_11_6847
_CONNECT_SECONDS = 5
_READ = "inflight_reads"
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}


class ArchiveError(RuntimeError):
    """The archive can't be used. The message names the database and the fix."""


class DatabaseUnavailable(TimeoutError):
    """The database does not respond, or refuses for a time. The message quotes no row."""


class Database:
    """The tables, on PostgreSQL or in a SQLite file. Threads may share it.

    Args:
        url: ``postgresql://user:password@host/database`` or ``sqlite:///PATH``. Nothing is opened before the first use.
        timeout: seconds after which a transaction that does not end is given up.

    Raises:
        ArchiveError: the address is malformed.
    """

    def __init__(self, url: str, timeout: float = 15.0) -> None:
        # A password may hold anything, also a space.
        self.shown = redact_url("".join(url.split())).partition("?")[0]
        self._timeout = timeout
        parsed = _parse(url)
        self.is_postgresql = parsed.get_backend_name() == "postgresql"
        self.engine = _postgresql(parsed) if self.is_postgresql else _sqlite(parsed, timeout)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block; rolled back if it raises.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: it failed, or did not end in time.
        """
        with self.engine.connect() as connection, self._limited(connection), connection.begin():
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for queries, each of which sees the newest data.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: a query failed, or did not end in time.
        """
        options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"} if self.is_postgresql else {_READ: True}
        with self.engine.connect().execution_options(**options) as connection, self._limited(connection):
            yield connection

    def upgrade(self) -> None:
        """Make the tables, or bring those of an older release up to date.

        Raises:
            ArchiveError: a newer release made them, or the database can't hold them.
            sqlalchemy.exc.SQLAlchemyError: it failed.
        """
        config = Config()
        with resources.as_file(resources.files("monitoring.archive") / "migrations") as folder:
            config.set_main_option("script_location", str(folder).replace("%", "%%"))
            scripts = ScriptDirectory.from_config(config)
            head = scripts.get_current_head()
            with self.writing() as connection:
                if self._version(connection) == head:
                    return
            with self.writing() as connection:
                if self.is_postgresql:
                    self._require_utf8(connection)
                    # Of several processes that start at once, one makes the tables.
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                found = self._version(connection)
                if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
                    raise ArchiveError(
                        f"the archive {self.shown} has schema version {found}, this release knows {head}: "
                        "install a newer inflight"
                    )
                config.attributes["connection"] = connection
                config.attributes["version_table"] = _VERSION_TABLE
                with _ALEMBIC:
                    command.upgrade(config, "head")

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    @staticmethod
    def _version(connection: Connection) -> str | None:
        context = MigrationContext.configure(connection, opts={"version_table": _VERSION_TABLE})
        return context.get_current_revision()

    def _require_utf8(self, connection: Connection) -> None:
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
        if encoding != "UTF8":
            raise ArchiveError(
                f"the database of the archive {self.shown} has the encoding {encoding}: create one with "
                "ENCODING 'UTF8' TEMPLATE template0"
            )

    @contextmanager
    def _limited(self, connection: Connection) -> Iterator[None]:
        """End the connection if the block takes too long. A server that hangs would hold its client for ever."""
        if not self.is_postgresql:
            yield
            return
        timer = threading.Timer(self._timeout, _disconnect, (connection.connection.driver_connection,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


# Alembic keeps what it works on in module variables.
_ALEMBIC = threading.Lock()


def describe(error: Exception) -> str:
    """The type of an error of the database, such as `AdminShutdown`; its message may quote a row."""
    origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return type(origin).__name__


def reason(error: SQLAlchemyError) -> str:
    """Why there is no connection; empty for other errors, whose message may quote a row."""
    if not isinstance(error, DBAPIError) or error.statement is not None:
        return ""
    lines = str(error.orig).strip().splitlines()
    return redact_url(lines[0][:300]) if lines else ""


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        driver = _DRIVERS[parsed.drivername.partition("+")[0]]
    except (ArgumentError, KeyError, ValueError):
        raise ArchiveError(
            "INFLIGHT_ARCHIVE_URL must be postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///PATH"
        ) from None
    if driver == "sqlite" and not parsed.database:
        raise ArchiveError("INFLIGHT_ARCHIVE_URL names no file: write sqlite:///PATH")
    return parsed.set(drivername=driver)


def _postgresql(url: URL) -> Engine:
    query = dict(url.query)
    given = query.pop("options", "")
    arguments = {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "inflight-archive",
        "options": f"{given} -c timezone=UTC".strip(),
    }
    try:
        return create_engine(url.set(query=query), connect_args=arguments)
    except ModuleNotFoundError as error:
        raise ArchiveError(f"{error.name} is not installed: {install_command('archive')}") from None


def _sqlite(url: URL, timeout: float) -> Engine:
    path = Path(str(url.database))
    engine = create_engine(
        "sqlite://", creator=lambda: sqlite.connect(path, timeout=timeout), poolclass=QueuePool, max_overflow=-1
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # At once for writing: a transaction that begins to write later may find that it can't.
        if not connection.get_execution_options().get(_READ):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _disconnect(connection: Any) -> None:
    """Shut a connection down under its user, who gets an error then."""
    # A copy of the file: whoever closes the connection meanwhile has not closed somebody else's.
    with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)
