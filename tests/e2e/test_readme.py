"""The README's way from a fitted pipeline and a topic to predictions, word for word, as a user has it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from inflight.stack.maven import missing_tools
from inflight.stack.process import free_port
from tests.support.company import Company, make
from tests.support.waiting import figures, until

ROOT = Path(__file__).parents[2]
BEFORE, AFTER = slice(0, 300), slice(300, 1_200)
PARTITIONS = 3


def readme_lines() -> list[str]:
    """The commands of the first block of shell in the README, without their comments."""
    [block] = re.findall(
        r"^```sh\n(inflight adopt .*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    return [line.partition("  #")[0].strip() for line in block.splitlines()]


class User:
    """A folder with a pipeline and a sample, a topic, and a shell."""

    def __init__(self, folder: Path, stack: str) -> None:
        self.folder = folder
        self.company: Company = make(folder, rows=2_000)
        self.company.model.unlink()
        joblib.dump(self.company.pipeline, folder / "fraud.joblib")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("INFLIGHT_")}
        self.environment = clean | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "INFLIGHT_HOME": str(folder / "home"),
            "INFLIGHT_GATEWAY_PORT": str(free_port()),
            "INFLIGHT_LOG_FORMAT": "text",
            "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        }
        up = self.shell(f"inflight up --stack {stack}").stdout
        self.environment |= dict(re.findall(r"^export (\w+)=(.*)$", up, re.MULTILINE))
        self.kafka = {"bootstrap.servers": self.environment["INFLIGHT_KAFKA_BOOTSTRAP_SERVERS"]}
        admin = AdminClient(self.kafka)
        admin.create_topics([NewTopic("orders", PARTITIONS, 1)])["orders"].result(60)

    def shell(self, line: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done

    def publish(self, rows: slice) -> None:
        """The shop's events, as the shop publishes them."""
        producer = Producer(self.kafka)
        for key, value in self.company.events(rows):
            producer.produce("orders", json.dumps(value), key)
        assert producer.flush(60) == 0

    @contextmanager
    def running(self, line: str) -> Iterator[Path]:
        log = self.folder / "run.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                shlex.split(line), cwd=self.folder, env=self.environment, stderr=file, stdout=file
            )
        try:
            until(lambda: process.poll() is not None or "all processes are ready" in log.read_text(), 240, "all run")
            assert process.poll() is None, log.read_text()[-5_000:]
            yield log
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
        finally:
            process.kill()
            process.wait()

    def results(self, count: int) -> list[tuple[str, int, dict[str, Any]]]:
        """Key, partition and value of the first results."""
        consumer = Consumer(self.kafka | {"group.id": "downstream", "auto.offset.reset": "earliest"})
        consumer.subscribe(["prediction-results"])
        found: list[tuple[str, int, dict[str, Any]]] = []
        deadline = time.monotonic() + 120
        while len(found) < count and time.monotonic() < deadline:
            for message in consumer.consume(1_000, 1.0):
                assert message.error() is None, message.error()
                found.append((message.key().decode(), message.partition(), json.loads(message.value())))
        consumer.close()
        return found


@pytest.fixture(params=["embedded", "real"])
def user(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[User]:
    if request.param == "real" and missing_tools():
        pytest.skip(f"{' and '.join(missing_tools())} missing: no real broker and search node on this machine")
    found = User(tmp_path, request.param)
    try:
        yield found
    finally:
        found.shell("inflight down")


def test_from_a_pipeline_and_a_topic_to_predictions(user: User) -> None:
    """Four commands and no code: each answer is the pipeline's, in the log, on the board of the console."""
    lines = readme_lines()
    assert len(lines) <= 10
    assert [line.split()[1] for line in lines] == ["adopt", "adopt", "try", "run"]
    assert not any("python" in line for line in lines)
    user.publish(BEFORE)
    began = time.monotonic()
    looked = user.shell(lines[0]).stdout
    assert "order.shipping.distanceKm" in looked
    assert "300 of the newest 300 are answered" in looked
    assert not (user.folder / "fraud.toml").exists()
    saved = user.shell(lines[1]).stdout
    assert "are answered exactly as by the original" in saved
    assert "fraud v1, the champion" in saved
    assert "drift  none" in user.shell(lines[2]).stdout
    with user.running(lines[3]):
        user.publish(AFTER)
        expected = user.company.expected(AFTER)
        results = user.results(len(expected))
        seconds = time.monotonic() - began
        answers = {value["request_id"]: value["prediction"] for _, _, value in results}
        assert len(answers) == len(results) == len(expected)
        for number, probability in enumerate(expected, AFTER.start):
            assert answers[f"o-{number:06}"] == {"probability": probability, "fraud": probability > 0.5}
        assert {value["model_version"] for _, _, value in results} == {"v1"}
        # The order of each customer's orders is kept, under the customer's key.
        for customer in {key for key, _, _ in results}:
            ids = [value["request_id"] for key, _, value in results if key == customer]
            assert ids == sorted(ids)
        until(lambda: audit(user)["unindexed"] == 0, 120, "all is in the log")
        counted = audit(user)
        assert (counted["accepted"], counted["completed"], counted["lost"]) == (len(expected), len(expected), 0)
        page = f"http://127.0.0.1:{user.environment['INFLIGHT_GATEWAY_PORT']}"
        with urllib.request.urlopen(f"{page}/v1/models/fraud", timeout=30) as answer:
            assert json.load(answer)["version"] == "v1"
    figures(commands=len(lines), seconds_to_all_results=seconds)


def audit(user: User) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(user.shell("inflight audit --json || true").stdout)
    return found
