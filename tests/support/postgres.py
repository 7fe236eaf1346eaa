"""A private PostgreSQL for tests: a cluster of its own, on a loopback port, run as a user without rights."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path

import psycopg

from inflight.stack.elasticsearch import NOBODY
from inflight.stack.process import Launch, Node, foreign_environment, free_port, wait_until

USER, PASSWORD = "inflight", "a-pass:word@with/characters"
QUOTED = "a-pass%3Aword%40with%2Fcharacters"
_DEBIAN = Path("/usr/lib/postgresql")


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL of this machine; Debian keeps it off the PATH."""
    found = sorted(_DEBIAN.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    path = shutil.which("postgres")
    return Path(path).resolve().parent if path else None


class PostgresNode(Node):
    """A server: `start`, `stop`, `kill`, `restart(hard=True)` with the same data and port."""

    name = "postgres"
    seconds_to_ready = 180.0

    def __init__(self) -> None:
        folder = binaries()
        assert folder is not None
        self._binaries = folder
        # PostgreSQL refuses to run as root; that user needs a folder of its own.
        self._uid = NOBODY if os.geteuid() == 0 else None
        directory = Path(tempfile.mkdtemp(prefix="inflight-postgres-"))
        if self._uid is not None:
            os.chown(directory, self._uid, self._uid)
        super().__init__(directory)
        self._data = self.directory / "data"
        self.port = free_port()

    @property
    def endpoints(self) -> dict[str, str]:
        return {"postgresql": f"127.0.0.1:{self.port}"}

    def url(self, database: str) -> str:
        """The address of a database, with its password."""
        return f"postgresql://{USER}:{QUOTED}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make a database; return its address."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        return self.url(name)

    def is_ready(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def prepare(self) -> Launch:
        environment = foreign_environment()
        if not (self._data / "PG_VERSION").exists():
            secret = self.directory / "password"
            secret.write_text(PASSWORD)
            if self._uid is not None:
                os.chown(secret, self._uid, self._uid)
            command = [self._binaries / "initdb", "-D", self._data, "-U", USER, "--pwfile", secret]
            subprocess.run(
                [*command, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"],
                check=True,
                capture_output=True,
                cwd=self.directory,
                env=environment,
                user=self._uid,
                group=self._uid,
                extra_groups=None if self._uid is None else [],
            )
        # The children of one that was killed end a moment after it, and hold its memory until then.
        wait_until(lambda: not self._children(), 60)
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        settings |= {"shared_buffers": "32MB", "max_connections": "40", "log_min_messages": "error"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command_line = [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port), *options]
        return Launch(command_line, environment, self._uid)

    def stop(self, grace: float = 30.0) -> None:
        """As `Node.stop`, without waiting for clients to leave."""
        if self.process_id is not None and self.process_id.is_alive():
            os.kill(self.process_id.pid, signal.SIGINT)
            process = self.process_id
            wait_until(lambda: not process.is_alive(), grace)
        super().stop(grace)

    def pause(self) -> None:
        """Stop every process of the server where it stands: it keeps its connections and says nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and delete its files."""
        self.go_on()
        self.kill()
        wait_until(lambda: not self._children(), 60)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _signal(self, number: int) -> None:
        own = [self.process_id.pid] if self.process_id is not None and self.process_id.is_alive() else []
        for pid in [*own, *self._children()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _children(self) -> list[int]:
        """Processes that work in the data folder, except the first one."""
        first = self.process_id.pid if self.process_id is not None else 0
        found = []
        for path in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                if path.readlink() == self._data and int(path.parent.name) != first:
                    found.append(int(path.parent.name))
        return found
