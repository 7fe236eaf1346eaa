"""A real Alertmanager with our configuration: the receiver of each alert, and which alerts inhibit which."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from tests.support.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "rollouts.md"
FOLDER = Path(__file__).parents[2] / "monitoring" / "deploy" / "alertmanager"
ALERTS = FOLDER.parent / "prometheus" / "alerts.yml"
BINARIES = ("prometheus-alertmanager", "alertmanager")
"""Debian's name, and its own."""


class Alertmanager:
    """One that runs, and what it thinks of alerts."""

    def __init__(self, binary: str, folder: Path, config_file: Path = FOLDER / "alertmanager.yml") -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self._url = f"http://{address}"
        self._log = folder / "alertmanager.log"
        config = f"--config.file={config_file}"
        options = [f"--storage.path={folder}", f"--web.listen-address={address}", "--cluster.listen-address="]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([binary, config, *options], stdout=log, stderr=subprocess.STDOUT)

    def ready(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self._log.read_text()
            try:
                self._call("/-/ready")
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(self._log.read_text())

    def told_of(self, *labels: dict[str, str]) -> dict[tuple[str, str], tuple[list[str], bool]]:
        """With these alerts added to those that are there: the receivers of each, and whether it is inhibited.

        By name and model.
        """
        self._call("/api/v2/alerts", [{"labels": one} for one in labels])
        found = json.loads(self._call("/api/v2/alerts"))
        assert len(found) >= len(labels)
        return {
            (one["labels"]["alertname"], one["labels"].get("model", "")): (
                [receiver["name"] for receiver in one["receivers"]],
                bool(one["status"]["inhibitedBy"]),
            )
            for one in found
        }

    def _call(self, path: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            content: bytes = answer.read()
        return content

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture
def binary() -> str:
    found = next(filter(None, map(shutil.which, BINARIES)), None)
    if found is None:
        assert not os.environ.get("REQUIRE_REAL"), "Alertmanager is missing: install Debian's prometheus-alertmanager"
        pytest.skip("Alertmanager is not installed")
    return found


@pytest.fixture
def alertmanager(binary: str, tmp_path: Path) -> Iterator[Alertmanager]:
    found = Alertmanager(binary, tmp_path)
    try:
        found.ready()
        yield found
    finally:
        found.stop()


def test_each_severity_goes_to_its_receiver(alertmanager: Alertmanager) -> None:
    """Of all our alerts."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    severities = {rule["alert"]: rule["labels"]["severity"] for group in groups for rule in group["rules"]}
    told = alertmanager.told_of(*({"alertname": name, "severity": one} for name, one in severities.items()))
    assert {name: receivers for (name, _), (receivers, _) in told.items()} == {
        name: [severity] for name, severity in severities.items()
    }


def test_nobody_is_told_twice(alertmanager: Alertmanager) -> None:
    """A critical alert inhibits the warning about the same budget of the same model; a missing worker inhibits more."""
    told = alertmanager.told_of(
        {"alertname": "InflightPredictionErrors", "severity": "critical", "model": "diamonds"},
        {"alertname": "InflightPredictionErrorsSlowBurn", "severity": "warning", "model": "diamonds"},
        {"alertname": "InflightPredictionErrorsSlowBurn", "severity": "warning", "model": "titanic"},
        {"alertname": "InflightSlowPredictions", "severity": "critical", "model": "titanic"},
        {"alertname": "InflightSlowPredictionsSlowBurn", "severity": "warning", "model": "titanic"},
        {"alertname": "InflightDriftDetected", "severity": "warning", "model": "diamonds"},
        {"alertname": "InflightStalled", "severity": "critical"},
    )
    assert {name for name, (_, inhibited) in told.items() if inhibited} == {
        ("InflightPredictionErrorsSlowBurn", "diamonds"),
        ("InflightSlowPredictionsSlowBurn", "titanic"),
    }
    told = alertmanager.told_of({"alertname": "InflightWorkerAbsent", "severity": "critical", "job": "inflight-worker"})
    inhibited = {name for (name, _), (_, is_inhibited) in told.items() if is_inhibited}
    assert {"InflightStalled", "InflightSlowPredictions"} <= inhibited
    assert inhibited.isdisjoint({"InflightDriftDetected", "InflightPredictionErrors", "InflightWorkerAbsent"})


LATE = {"severity": "warning", "group": "inflight-indexer", "topic": "prediction-logs"}
REQUESTS = {"severity": "warning", "group": "inflight-worker", "topic": "prediction-requests"}


def inhibited(told: dict[tuple[str, str], tuple[list[str], bool]]) -> set[str]:
    return {name for (name, _), (_, is_inhibited) in told.items() if is_inhibited}


def test_where_the_broker_is_away_its_lag_is_no_news(alertmanager: Alertmanager) -> None:
    """Nor is anything else that was read from it before."""
    names = ("Stalled", "ConsumerStalled", "Behind", "LagGrowing", "RetentionNear", "OpenTransaction")
    late = [{"alertname": f"Inflight{name}", **LATE} for name in names]
    others = [{"alertname": f"Inflight{name}", "severity": "warning"} for name in ("DriftDetected", "RecordsExpired")]
    told = alertmanager.told_of(*late, *others, {"alertname": "InflightLagUnknown", "severity": "critical"})
    assert inhibited(told) == {f"Inflight{name}" for name in names}


def test_an_absent_kind_of_process_says_it_for_each_of_them(alertmanager: Alertmanager) -> None:
    """And for no other kind; a missing worker excuses only the lag of the workers."""
    told = alertmanager.told_of(
        {"alertname": "InflightIndexerAbsent", "severity": "warning", "job": "inflight-indexer"},
        {"alertname": "InflightProcessDown", "severity": "warning", "job": "inflight-indexer"},
        {"alertname": "InflightFewerProcesses", "severity": "warning", "job": "inflight-label-joiner"},
    )
    assert inhibited(told) == {"InflightProcessDown"}
    told = alertmanager.told_of(
        {"alertname": "InflightWorkerAbsent", "severity": "critical", "job": "inflight-worker"},
        {"alertname": "InflightBehind", **LATE},
        {"alertname": "InflightLagGrowing", **REQUESTS},
    )
    assert inhibited(told) == {"InflightProcessDown", "InflightLagGrowing"}


def test_a_group_that_stands_still_is_behind_as_well(alertmanager: Alertmanager) -> None:
    """On the same topic."""
    told = alertmanager.told_of(
        {"alertname": "InflightConsumerStalled", **LATE},
        {"alertname": "InflightBehind", **LATE},
        {"alertname": "InflightLagGrowing", **LATE, "topic": "model-measurements"},
    )
    assert inhibited(told) == {"InflightBehind"}


def test_an_archive_without_its_database_is_behind(alertmanager: Alertmanager) -> None:
    """And nobody else is, for that reason."""
    calls = {"severity": "warning", "group": "shop-inflight-archive", "topic": "shop-api-calls"}
    told = alertmanager.told_of(
        {"alertname": "InflightArchiveUnavailable", "severity": "warning"},
        {"alertname": "InflightConsumerStalled", **calls},
        {"alertname": "InflightRetentionNear", **calls},
        {"alertname": "InflightBehind", **LATE},
    )
    assert inhibited(told) == {"InflightConsumerStalled"}


def test_a_failed_rollout_reaches_a_webhook_and_a_mailbox(binary: str, tmp_path: Path) -> None:
    """With the receivers that docs/rollouts.md has, and our routes."""
    config = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())
    example = re.findall(r"```yaml\n(receivers:.*?)```", PAGE.read_text(), re.S)[0]
    (documented,) = yaml.safe_load(example)["receivers"]
    with Inbox(mail=False) as webhook, Inbox(mail=True) as mailbox:
        documented["webhook_configs"][0]["url"] = f"http://127.0.0.1:{webhook.port}/alerts"
        documented["email_configs"][0]["smarthost"] = f"127.0.0.1:{mailbox.port}"
        config["receivers"] = [one if one["name"] != "warning" else documented for one in config["receivers"]]
        config["route"]["group_wait"] = "0s"
        config_file = tmp_path / "alertmanager.yml"
        config_file.write_text(yaml.safe_dump(config))
        running = Alertmanager(binary, tmp_path, config_file)
        try:
            running.ready()
            running.told_of({"alertname": "InflightRolloutStopped", "severity": "warning", "model": "diamonds"})
            until(lambda: b"InflightRolloutStopped" in webhook.received, 120, "the webhook is called")
            until(lambda: b"InflightRolloutStopped" in mailbox.received, 120, "the mail is sent")
        finally:
            running.stop()
    assert b"diamonds" in webhook.received
    assert b"models@example.com" in mailbox.received


class Inbox(threading.Thread):
    """A server that takes what it is sent, by HTTP or SMTP, and says yes."""

    def __init__(self, *, mail: bool) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._mail = mail
        self.port: int = self._listener.getsockname()[1]
        self.received = b""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing does not wake `accept`; a connection does.
        self._is_closing = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self.join(60)
        self._listener.close()

    _is_closing = False

    def run(self) -> None:
        while not self._is_closing:
            connection, _ = self._listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(60)
                (self._take_mail if self._mail else self._take_call)(connection)

    def _take_call(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            head = []
            while (line := lines.readline()) not in (b"\r\n", b""):
                head.append(line)
            length = next((int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length:")), 0)
            self.received += lines.read(length)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def _take_mail(self, connection: socket.socket) -> None:
        connection.sendall(b"220 inbox\r\n")
        with connection.makefile("rb") as lines:
            is_text = False
            for line in lines:
                self.received += line
                if is_text:
                    is_text = line != b".\r\n"
                    answer = b"" if is_text else b"250 ok\r\n"
                else:
                    is_text = line.upper().startswith(b"DATA")
                    answer = (
                        b"354 go on\r\n"
                        if is_text
                        else b"221 bye\r\n"
                        if line.upper().startswith(b"QUIT")
                        else b"250 ok\r\n"
                    )
                connection.sendall(answer)
                if answer.startswith(b"221"):
                    return
