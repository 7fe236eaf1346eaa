"""A real S3 server (moto's) in a process of its own, which can be slowed, made to refuse, stopped and killed."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import until

PROGRAM = Path(__file__).parent / "programs" / "s3_server.py"
SECRET = "s3-secret-that-is-never-logged"


class S3Server:
    """Started by `start`. `environment` is what clients need."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fault = folder / "fault.json"
        self.process = self._start()
        port = (folder / "port").read_text()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def _start(self) -> subprocess.Popen[bytes]:
        port = self._folder / "port"
        with (self._folder / "s3.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(port), str(self._fault)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            )

        def listening() -> bool:
            assert process.poll() is None, (self._folder / "s3.log").read_text()
            return port.exists() and bool(port.read_text())

        until(listening, 60, "the S3 server listens")
        return process

    def new_bucket(self) -> str:
        """The URL of a new, empty bucket."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="test",
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        client.create_bucket(Bucket=name)
        client.close()
        return f"s3://{name}"

    @contextmanager
    def fault(self, **fault: object) -> Iterator[None]:
        """Requests meet a fault within the block, see `programs/s3_server.py`."""
        self._fault.with_suffix(".met").unlink(missing_ok=True)
        partial = self._fault.with_suffix(".partial")
        partial.write_text(json.dumps(fault))
        partial.rename(self._fault)
        try:
            yield
        finally:
            self._fault.unlink(missing_ok=True)

    def met_fault(self) -> bool:
        """Whether a request has met the fault of the present or last block."""
        return self._fault.with_suffix(".met").exists()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The server accepts connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, and this process as its client."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server
