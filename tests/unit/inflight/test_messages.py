"""What a mistake of a beginner is answered with: one line that names the fix, and no traceback."""

import errno
import json
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from confluent_kafka import KafkaError, KafkaException
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch import AuthenticationException, ConnectionTimeout
from typer.testing import CliRunner

from inflight.cli import app
from inflight.commands.dashboards import hint_at_esql
from inflight.commands.replay import print_report
from inflight.errors import exit_for
from inflight.settings import load_settings
from inflight.stack.process import free_port
from machine_learning_engineering.kafka import client as kafka
from producers.replay import ReplayReport


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    monkeypatch.setenv("INFLIGHT_HOME", str(tmp_path))
    load_settings.cache_clear()
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def test_a_broker_that_is_away_is_named_with_its_address_and_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not with the inside of a client's error."""
    monkeypatch.setenv("INFLIGHT_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    error = exit_for(KafkaException(KafkaError(KafkaError._TRANSPORT, "Broker transport failure")))
    assert isinstance(error, typer.Exit)
    assert error.exit_code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: no response from Kafka at 127.0.0.1:9 (Broker transport failure)")
    assert "`inflight up`" in told


def test_a_search_node_that_is_away_or_refuses_is_named_with_its_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And without the password in its address."""
    monkeypatch.setenv("INFLIGHT_ELASTICSEARCH_URL", "http://ada:secret@127.0.0.1:9")
    meta = ApiResponseMeta(401, "1.1", HttpHeaders(), 0.0, NodeConfig("http", "127.0.0.1", 9))
    for error, words in (
        (ConnectionTimeout("timed out"), "timed out; is Elasticsearch running at http://127.0.0.1:9"),
        (AuthenticationException("no", meta, {}), "INFLIGHT_ELASTICSEARCH_API_KEY"),
    ):
        stop = exit_for(error)
        assert isinstance(stop, typer.Exit)
        told = capsys.readouterr().err
        assert words in told
        assert "secret" not in told


def test_a_bug_stays_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """With its traceback: a line would hide where it is."""
    bug = ValueError("a bug, unless the command expects one")
    assert exit_for(bug) is bug
    assert capsys.readouterr().err == ""
    assert isinstance(exit_for(bug, ValueError), typer.Exit)


@pytest.mark.parametrize(
    "command", [["dlq", "list"], ["dlq", "list", "--json"], ["dlq", "show", "0:1"], ["dlq", "replay", "--all"]]
)
def test_dead_letters_of_a_broker_that_is_away(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked with a short patience first."""
    patience = []

    def away(settings: object, topic: str, timeout: float) -> None:
        patience.append(timeout)
        raise KafkaException(KafkaError(KafkaError._TRANSPORT, "Broker transport failure"))

    monkeypatch.setattr(kafka, "end_offsets", away)
    monkeypatch.setattr("inflight.stack.probes.anything_listens", lambda _servers: True)
    result = run(*command)
    assert (result.exit_code, result.stdout, patience) == (2, "", [10])
    assert "`inflight up`" in result.stderr


@pytest.mark.parametrize(
    "command",
    [["results"], ["results", "--json"], ["dlq", "list"], ["trace", "a"], ["audit"], ["drift", "show", "titanic"]],
)
def test_where_nothing_listens_a_command_says_so_at_once(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Clients would try for ten seconds and more."""
    monkeypatch.setenv("INFLIGHT_HOME", str(tmp_path))
    monkeypatch.setenv("INFLIGHT_KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}")
    load_settings.cache_clear()
    try:
        started = time.monotonic()
        result = run(*command)
        seconds = time.monotonic() - started
    finally:
        load_settings.cache_clear()
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: no response from Kafka at 127.0.0.1:")
    assert "`inflight up`" in line
    assert seconds < 5


def test_a_second_worker_on_the_port_of_the_first_is_told_which_setting_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other errors of the operating system are told as they are."""
    import stream_app.worker

    def fails(code: int) -> None:
        def main() -> None:
            raise OSError(code, "no")

        monkeypatch.setattr(stream_app.worker, "main", main)

    fails(errno.EADDRINUSE)
    taken = run("worker")
    assert taken.exit_code == 2
    assert "INFLIGHT_WORKER_METRICS_PORT" in taken.stderr
    fails(errno.ENOSPC)
    assert "INFLIGHT_WORKER_METRICS_PORT" not in run("worker").stderr


@pytest.mark.parametrize("away", [KafkaException(KafkaError(KafkaError._TRANSPORT, "gone")), TimeoutError("no leader")])
def test_a_worker_without_a_broker_is_one_line(away: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug keeps its traceback."""
    import stream_app.worker

    def main() -> None:
        raise away

    monkeypatch.setattr(stream_app.worker, "main", main)
    result = run("worker")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "`inflight status`" in result.stderr
    away = ZeroDivisionError("a bug")
    assert run("worker").exception is away


def test_retraining_what_was_never_trained_names_the_training(home: Path) -> None:
    """No decision is kept, since there was none to make."""
    result = run("retrain", "titanic", "--log", str(home / "none.sqlite"), "--dry-run")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "run inflight train titanic" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (home / "retraining").exists()


def test_ids_are_told_of_requests_that_were_published_only(capsys: pytest.CaptureFixture[str]) -> None:
    """And in JSON always, for programs."""
    nothing = ReplayReport(accepted=0, failed=2, indeterminate=0, seconds=1.0, id_prefix="p")
    print_report(nothing, as_json=False)
    print_report(ReplayReport(accepted=1, failed=0, indeterminate=0, seconds=1.0, id_prefix="p"), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "ids" in line] == ["  ids p-00000000 and so on"]
    print_report(nothing, as_json=True)
    assert json.loads(capsys.readouterr().out)["id_prefix"] == "p"


def test_a_search_node_without_esql_is_said_to_have_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Once, and only where that is the reason."""
    hint_at_esql(["unknown column [x]"])
    assert capsys.readouterr().err == ""
    hint_at_esql(["no handler found for uri", "no handler found for uri"])
    assert capsys.readouterr().err.count("--stack real") == 1
