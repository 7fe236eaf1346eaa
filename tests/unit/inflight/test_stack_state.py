"""The file that remembers a stack between commands, and what the commands say when something is in the way."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from inflight import settings as settings_module
from inflight.cli import app
from inflight.settings import Settings
from inflight.stack import maven
from inflight.stack.doctor import _embedded
from inflight.stack.process import ProcessId, StackError, foreign_environment, free_port
from inflight.stack.stack import IDLE_PAUSE, Endpoints, NodeState, StackState, start_stack
from inflight.stack.status import with_endpoints
from machine_learning_engineering.events.topics import TOPICS

ENDED = ProcessId(os.getpid(), "long ago")
ADDRESSES = {"kafka": "127.0.0.1:19092", "elasticsearch": "http://127.0.0.1:19200"}


def state_of(process: ProcessId, home: Path, addresses: dict[str, str] = ADDRESSES) -> StackState:
    log = home / "stack" / "embedded" / "embedded.log"
    return StackState("embedded", (NodeState("embedded", process, addresses, str(log)),))


@contextmanager
def running_in(folder: Path) -> Iterator[ProcessId]:
    """A process that works in this folder, as a node does."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=folder, start_new_session=True) as child:
        found = ProcessId.of(child.pid)
        assert found is not None
        yield found
        child.kill()


def test_a_saved_state_is_read_back(tmp_path: Path) -> None:
    """With the endpoints, and the variables that point our processes at them; it is this user's alone."""
    state_of(ENDED, tmp_path).save(tmp_path)

    state = StackState.load(tmp_path)

    assert state == state_of(ENDED, tmp_path)
    assert (tmp_path / "stack" / "state.json").stat().st_mode & 0o777 == 0o600
    assert state is not None
    assert state.endpoints == Endpoints("127.0.0.1:19092", "http://127.0.0.1:19200", IDLE_PAUSE)
    assert state.endpoints.environment == {
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:19092",
        "INFLIGHT_ELASTICSEARCH_URL": "http://127.0.0.1:19200",
        "INFLIGHT_KAFKA_IDLE_PAUSE": str(IDLE_PAUSE),
    }
    assert [path.name for path in (tmp_path / "stack").iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"kind": "embedded", "nodes": []}', '{"nodes": [{"pid": 1}]}']
)
def test_a_file_that_makes_no_sense_counts_as_no_stack(tmp_path: Path, content: str) -> None:
    """It is not in the way of the next start."""
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "state.json").write_text(content)
    assert StackState.load(tmp_path) is None


def test_a_stack_whose_pid_now_belongs_to_another_process_is_dead(tmp_path: Path) -> None:
    """Stopping it harms nobody; here the other process is the test itself."""
    state_of(ENDED, tmp_path).save(tmp_path)
    state = StackState.load(tmp_path)
    assert state is not None
    assert not state.is_alive()
    state.stop()


def test_a_process_that_works_elsewhere_is_no_node(tmp_path: Path) -> None:
    """A file from somewhere else may name any process: it is neither believed nor stopped."""
    with running_in(tmp_path / "elsewhere") as other:
        state_of(other, tmp_path).save(tmp_path)
        state = StackState.load(tmp_path)
        assert state is not None
        assert not state.is_alive()
        state.stop()
        assert other.is_alive()


@pytest.mark.parametrize(
    ("service", "address"),
    [
        ("elasticsearch", "http://127.0.0.1:9200$(touch harmed)"),
        ("elasticsearch", "http://127.0.0.1:9200\nexport PATH=/tmp"),
        ("elasticsearch", "https://search.example:9200"),
        ("elasticsearch", "http://user@127.0.0.1:9200"),
        ("elasticsearch", "http://127.0.0.1:9200/path"),
        ("kafka", "127.0.0.1:9092;touch harmed"),
        ("kafka", "127.0.0.1:`id`"),
        ("kafka", "kafka.example:9092"),
        ("kafka", "127.0.0.1:9092,kafka.example:9092"),
        ("kafka", "127.0.0.1:٩٠٩٢"),
        ("kafka", "127.0.0.1:9092\n"),
    ],
)
def test_an_address_that_is_not_of_this_machine_is_not_believed(tmp_path: Path, service: str, address: str) -> None:
    """A shell evaluates it, and clients send requests there."""
    with running_in(tmp_path / "stack" / "embedded") as node:
        state_of(node, tmp_path, ADDRESSES | {service: address}).save(tmp_path)
        assert StackState.load(tmp_path) is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606, 0o660])
def test_a_file_that_is_not_this_users_alone_is_not_believed(tmp_path: Path, mode: int) -> None:
    """As one that came with a repository or an archive."""
    state_of(ENDED, tmp_path).save(tmp_path)
    (tmp_path / "stack" / "state.json").chmod(mode)
    assert StackState.load(tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_not_believed(tmp_path: Path) -> None:
    state_of(ENDED, tmp_path).save(tmp_path)
    os.chown(tmp_path / "stack" / "state.json", 12_345, 12_345)
    assert StackState.load(tmp_path) is None


def test_a_log_elsewhere_is_not_believed(tmp_path: Path) -> None:
    """It names the folder that the process has to work in."""
    with running_in(tmp_path / "elsewhere") as other:
        log = str(tmp_path / "elsewhere" / "embedded.log")
        StackState("embedded", (NodeState("embedded", other, ADDRESSES, log),)).save(tmp_path)
        assert StackState.load(tmp_path) is None


def test_a_running_stack_is_not_started_again(tmp_path: Path) -> None:
    """Two stacks of one home would share their data."""
    with running_in(tmp_path / "stack" / "embedded") as node:
        state_of(node, tmp_path).save(tmp_path)
        with pytest.raises(StackError, match="runs already"):
            start_stack("embedded", tmp_path)


def test_nodes_get_no_secret_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other programs need of the environment, and no more."""
    monkeypatch.setenv("INFLIGHT_ELASTICSEARCH_API_KEY", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dx=y")
    found = foreign_environment(EXTRA="1")
    assert "hunter2" not in found.values()
    assert found.keys() <= {"PATH", "HOME", "LANG", "TZ", "JAVA_HOME", "JAVA_TOOL_OPTIONS", "LC_ALL", "EXTRA"}
    assert (found["PATH"], found["JAVA_TOOL_OPTIONS"]) == (os.environ["PATH"], "-Dx=y")


def test_settings_of_a_stack_have_no_secret(tmp_path: Path) -> None:
    """Its nodes ask for none: a key of another Elasticsearch would only be given away."""
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        home=tmp_path,
        elasticsearch_api_key="hunter2",
        kafka_options={"security.protocol": "SASL_SSL", "sasl.password": "hunter2"},
    )
    found = with_endpoints(settings, state_of(ENDED, tmp_path).endpoints)
    assert (found.elasticsearch_api_key, found.kafka_options) == (None, {})


@pytest.mark.parametrize("command", [["up", "--stack", "embedded"], ["demo"]])
def test_without_the_embedded_node_one_line_names_the_extra(
    command: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a small binary that production does not install; the doctor calls it optional."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    result = run(*command)
    assert result.exit_code == 2
    assert (
        result.stderr.splitlines()[-1]
        == "error: the embedded node is not installed: run `make setup`, or pip install '.[embedded]' in the repository"
    )
    assert StackState.load(home) is None


def test_doctor_reports_the_embedded_node_as_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed or not, the check passes."""
    assert _embedded().status == "ok"
    monkeypatch.setattr("inflight.stack.doctor.EMBEDDED", "a-package-that-is-not-installed")
    check = _embedded()
    assert check.status == "ok"
    assert "optional" in check.found
    assert "pip install '.[embedded]'" in check.found


def test_missing_java_and_maven_are_named_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is downloaded or started."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(StackError, match=r"needs java and mvn.*apt-get install default-jre-headless maven"):
        start_stack("real", tmp_path)
    assert StackState.load(tmp_path) is None


def test_a_failed_resolution_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try starts anew, and the message shows what Maven said."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    for tool, script in (("mvn", "echo no such artifact; exit 1"), ("java", "exit 0")):
        (tmp_path / "bin" / tool).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(StackError, match="no such artifact"):
        maven.resolve_jars("thing", [maven.Artifact("group", "thing", "1")])
    assert list(maven.cache_dir().iterdir()) == []


def test_maven_runs_once_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many processes ask for artifacts: two of them could damage what it keeps."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    busy = tmp_path / "busy"
    for tool, script in (("mvn", f"mkdir {busy} && sleep 0.2 && rmdir {busy}"), ("java", "exit 0")):
        (tmp_path / "bin" / tool).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    names = [f"thing-{number}" for number in range(4)]
    with ThreadPoolExecutor(len(names)) as executor:
        found = list(executor.map(lambda name: maven.resolve_jars(name, [maven.Artifact("group", name, "1")]), names))
    assert [folder.name for folder in found] == names


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """INFLIGHT_HOME of commands that are run in this process."""
    monkeypatch.setenv("INFLIGHT_HOME", str(tmp_path))
    monkeypatch.setenv("INFLIGHT_KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("INFLIGHT_ELASTICSEARCH_URL", f"http://127.0.0.1:{free_port()}")
    settings_module.load_settings.cache_clear()
    yield tmp_path
    settings_module.load_settings.cache_clear()


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


@pytest.mark.usefixtures("home")
def test_status_without_a_stack_says_that_nothing_answers() -> None:
    """Machines get null where nothing could be asked."""
    result = run("status", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["nodes"] == []
    assert (found["broker"]["reachable"], found["elasticsearch"]["reachable"]) == (False, False)
    assert (found["topics"], found["indices"]) == (None, None)


@pytest.mark.usefixtures("home")
def test_down_without_a_stack_is_fine() -> None:
    """Nothing to stop is no error."""
    result = run("down", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"stopped": []})


def test_doctor_fails_when_a_node_has_ended_and_says_what_to_do(home: Path) -> None:
    """Every check that is not ok has a fix."""
    state_of(ENDED, home).save(home)
    result = run("doctor", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert not found["healthy"]
    ended = next(check for check in found["checks"] if check["name"] == "node embedded")
    assert (ended["status"], ended["fix"]) == ("fail", "`inflight up`")
    assert all(check["fix"] for check in found["checks"] if check["status"] != "ok")


def run_apart(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, which what it starts has to outlive."""
    command = [sys.executable, "-m", "inflight.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_up_status_and_down_of_the_embedded_stack(home: Path) -> None:
    """Up twice is fine, status counts topics, another kind is refused, down stops it and keeps the data."""
    up = ["up", "--kafka-port", str(free_port()), "--elasticsearch-port", str(free_port()), "--json"]
    try:
        first, second = json.loads(run_apart(*up).stdout), json.loads(run_apart(*up).stdout)
        other_kind = run("up", "--stack", "real")
        found = json.loads(run("status", "--json").stdout)
    finally:
        stopped = json.loads(run("down", "--json").stdout)

    assert len(first["topics_created"]) == len(TOPICS)
    assert (second["topics_created"], second["env"]) == ([], first["env"])
    assert other_kind.exit_code == 2
    assert "the embedded stack is up: `inflight down` first" in other_kind.stderr
    assert [node["alive"] for node in found["nodes"]] == [True]
    assert set(found["topics"].values()) == {0}
    assert found["indices"] == {}
    assert stopped == {"stopped": ["embedded"]}
    assert (home / "stack" / "embedded" / "data").is_dir()
    readable = [path for path in (home / "stack" / "embedded").rglob("*") if path.stat().st_mode & 0o077]
    assert readable == []
    assert (home / "stack" / "embedded").stat().st_mode & 0o777 == 0o700


def test_up_starts_a_stack_again_that_was_killed(home: Path) -> None:
    """On its data, and without a word about the process that is gone."""
    up = ["up", "--kafka-port", str(free_port()), "--elasticsearch-port", str(free_port()), "--json"]
    try:
        assert run_apart(*up).returncode == 0
        before = StackState.load(home)
        assert before is not None
        before.nodes[0].process_id.kill()

        again = run_apart(*up)

        after = StackState.load(home)
        assert again.returncode == 0
        assert after is not None
        assert after.is_alive()
        assert after.endpoints == before.endpoints
    finally:
        run("down")


def test_up_says_which_port_is_taken(home: Path) -> None:
    """And how to choose another."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = run("up", "--kafka-port", str(port))
    assert result.exit_code == 2
    assert f"error: port {port} is in use" in result.stderr
    assert "--kafka-port" in result.stderr
    assert StackState.load(home) is None
