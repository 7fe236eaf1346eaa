"""A real schema registry: Apicurio, from Maven Central, in memory."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx2

from inflight.stack.maven import _maven, cached
from inflight.stack.process import foreign_environment, free_port
from tests.support.waiting import until

VERSION = "2.6.13.Final"


def program() -> Path:
    """The folder of the registry's program, resolved once."""

    def fill(folder: Path, work: Path) -> None:
        coordinates = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
        _maven(work, (), "copy", f"-Dartifact={coordinates}", f"-DoutputDirectory={work / 'archive'}")
        (archive,) = (work / "archive").iterdir()
        subprocess.run(["tar", "xzf", str(archive), "-C", str(folder)], check=True)

    return cached(f"apicurio-{VERSION}", fill)


class Registry:
    """A running registry. `start`, `stop`; schemas are gone with it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}/apis/ccompat/v7"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        (jar,) = program().rglob("*runner.jar")
        environment = {"QUARKUS_HTTP_PORT": str(self._port), "QUARKUS_HTTP_HOST": "127.0.0.1"}
        log_path = self._folder / "apicurio.log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                ["java", "-Xmx300m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-jar", str(jar)],
                env=foreign_environment() | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, log_path.read_text()
            try:
                return httpx2.get(f"{self.url}/subjects", timeout=5).status_code == 200
            except httpx2.TransportError:
                return False

        until(answers, 180, "the registry answers")

    def stop(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """It takes connections and answers none of them, until `go_on`; it keeps its schemas."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def register(self, subject: str, schema: str, kind: str = "AVRO") -> int:
        """The id of a schema."""
        body: dict[str, Any] = {"schema": schema, "schemaType": kind}
        answer = httpx2.post(f"{self.url}/subjects/{subject}/versions", json=body, timeout=30)
        answer.raise_for_status()
        number: int = answer.json()["id"]
        return number
