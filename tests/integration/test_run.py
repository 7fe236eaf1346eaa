"""`inflight run`: a whole deployment by one command, as a user has it."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from inflight.settings import Settings
from inflight.stack.process import ProcessId, free_port, wait_until
from machine_learning_engineering.registry.registry import Registry
from tests.support.waiting import until

PASSENGER = {"pclass": 3, "sex": "male", "age": 22, "sibsp": 1, "parch": 0, "fare": 7.25, "embarked": "S"}


class Run:
    """`inflight run` as a process, with what it has printed."""

    def __init__(self, home: Path, registry: Registry, log: Path, *arguments: str, **variables: str) -> None:
        home.mkdir(exist_ok=True)
        if not (home / "registry").exists():
            (home / "registry").symlink_to(registry.path.absolute())
        self.port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INFLIGHT_")}
        environment |= {
            "INFLIGHT_HOME": str(home),
            "INFLIGHT_GATEWAY_PORT": str(self.port),
            "INFLIGHT_LOG_FORMAT": "text",
        }
        # As long a group waits for a member that was killed.
        environment["INFLIGHT_KAFKA_SESSION_TIMEOUT"] = "6"
        self._log = log
        with log.open("w") as file:
            command = [sys.executable, "-m", "inflight.cli", "run", *arguments]
            self.process = subprocess.Popen(command, env=environment | variables, stderr=file, stdout=file)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def pid(self, name: str) -> int:
        """The newest process of this name."""
        return int(re.findall(rf"(?m)^{name} +│ started, pid (\d+)$", self.log)[-1])

    def wait(self, text: str, seconds: float = 240.0) -> None:
        def found() -> bool:
            assert self.process.poll() is None, self.log[-5_000:]
            return text in self.log

        until(found, seconds, f"{text!r} in\n{self.log[-3_000:]}")

    def predict(self, request_id: str) -> dict[str, object]:
        """A passenger's survival, over HTTP."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/titanic/survival",
            json.dumps(PASSENGER).encode(),
            {"Content-Type": "application/json", "Idempotency-Key": request_id, "Prefer": "wait=50"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer: dict[str, object] = json.load(response)
        return answer

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


@contextmanager
def running(
    home: Path, registry: Registry, log: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> Iterator[Run]:
    run = Run(home, registry, log, *arguments, **(variables or {}))
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


def test_with_nothing_but_a_model(tmp_path: Path, trained_registry: Registry) -> None:
    """It brings a broker and Elasticsearch, keeps all running through kills, and leaves nothing behind."""
    with running(
        tmp_path / "home", trained_registry, tmp_path / "log", "--workers", "2", "--without", "exporter"
    ) as run:
        run.wait("all processes are ready")
        assert f"Console: http://127.0.0.1:{run.port}" in run.log
        assert run.predict("first")["survived"] is False
        names = (
            "worker-1",
            "worker-2",
            "gateway",
            "indexer",
            "drift-monitor",
            "label-joiner",
            "rollout-controller",
            "archive",
        )
        before = {name: run.pid(name) for name in names}
        for name in ("worker-1", "indexer"):
            os.kill(before[name], signal.SIGKILL)
        assert run.predict("second")["survived"] is False, "answered by a worker that was started again"
        run.wait(f"{'worker-1':<{len('rollout-controller')}} │ ended with signal SIGKILL")
        pids = [ProcessId.of(run.pid(name)) for name in names]
        assert run.stop() == 0
        assert "exporter" not in run.log
    assert not [one for one in pids if one is not None and one.is_alive()]
    with running(tmp_path / "home", trained_registry, tmp_path / "again") as run:
        run.wait("all processes are ready")
        assert run.predict("first")["request_id"] == "first", "its data are kept: the same answer"
        assert run.stop() == 0


def test_with_a_broker(settings: Settings, tmp_path: Path, trained_registry: Registry) -> None:
    """Given nothing but its address, what else is needed is started."""
    variables = {
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
    }
    with running(tmp_path / "home", trained_registry, tmp_path / "log", "--workers", "2", variables=variables) as run:
        run.wait("all processes are ready")
        assert f"on broker {settings.kafka_bootstrap_servers}, an embedded search node at http://127.0.0.1:" in run.log
        assert run.predict("first")["survived"] is False
        for name in ("worker-1", "worker-2"):
            os.kill(run.pid(name), signal.SIGKILL)
        assert run.predict("second")["survived"] is False, "answered by a worker that was started again"
        pids = [ProcessId.of(run.pid(name)) for name in ("worker-1", "worker-2", "gateway", "indexer")]
        run.process.kill()
        run.process.wait()
        assert wait_until(lambda: not [one for one in pids if one is not None and one.is_alive()], 120)


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (("--without", "kafka"), {}, "--without kafka: there is no such process"),
        ((), {"INFLIGHT_GATEWAY_HOST": "0.0.0.0"}, "gateway can't start: its log above says why"),
    ],
)
def test_what_can_not_start_is_told(
    arguments: tuple[str, ...],
    variables: dict[str, str],
    message: str,
    tmp_path: Path,
    trained_registry: Registry,
) -> None:
    """In one line, with exit code 2."""
    with running(tmp_path / "home", trained_registry, tmp_path / "log", *arguments, variables=variables) as run:
        assert run.process.wait(240) == 2
        assert message in run.log


def test_without_a_model(tmp_path: Path) -> None:
    """There would be nothing to serve; the message says how to get one."""
    registry = Registry(tmp_path / "empty")
    with running(tmp_path / "home", registry, tmp_path / "log") as run:
        assert run.process.wait(240) == 2
        assert "run `inflight train diamonds` or `inflight adopt MODEL --write` first" in run.log
