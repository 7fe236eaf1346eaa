"""Supervised processes: started, watched, stopped, and never confused with another that has the same pid."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inflight.stack.process import Launch, Node, ProcessId, StackError, free_port, is_listening, wait_until

SERVER = """
import http.server, signal, sys
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("listening soon", flush=True)
if "crash" in sys.argv:
    sys.exit("no disk")
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


class HttpNode(Node):
    """The smallest node: a web server of Python's own."""

    name = "http"
    seconds_to_ready = 60.0

    def __init__(self, directory: Path, *arguments: str) -> None:
        super().__init__(directory)
        self.port = free_port()
        self.arguments = arguments

    def prepare(self) -> Launch:
        return Launch([sys.executable, "-c", SERVER, str(self.port), *self.arguments], {**os.environ})

    def is_ready(self) -> bool:
        return is_listening(self.port)

    @property
    def endpoints(self) -> dict[str, str]:
        return {"elasticsearch": f"http://127.0.0.1:{self.port}"}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[HttpNode]:
    made = HttpNode(tmp_path)
    yield made
    made.kill()


def test_a_node_is_up_after_start_and_down_after_stop(node: HttpNode) -> None:
    """Start waits for readiness; stop waits for the end, and may be said twice."""
    node.start()
    assert node.is_alive()
    assert is_listening(node.port)

    node.stop()
    node.stop()

    assert not node.is_alive()
    assert not is_listening(node.port)


@pytest.mark.parametrize("hard", [False, True])
def test_a_restarted_node_is_another_process_on_the_same_port(node: HttpNode, hard: bool) -> None:
    """The process changes, the address doesn't."""
    node.start()
    before, endpoints = node.process_id, node.endpoints

    node.restart(hard=hard)

    assert node.process_id != before
    assert node.endpoints == endpoints
    assert node.is_alive()


def test_a_node_that_ends_while_starting_fails_at_once_with_its_log(tmp_path: Path) -> None:
    """The message shows what the process said last."""
    node = HttpNode(tmp_path, "crash")
    with pytest.raises(StackError, match=r"(?s)ended before it was ready.*http\.log.*listening soon.*no disk"):
        node.start()


def test_a_node_that_is_never_ready_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it runs after the deadline."""
    node = HttpNode(tmp_path)
    monkeypatch.setattr(HttpNode, "seconds_to_ready", 0.3)
    monkeypatch.setattr(HttpNode, "is_ready", lambda _: False)
    with pytest.raises(StackError, match="was not ready after 0 s"):
        node.start()
    assert not node.is_alive()


def test_a_node_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    """Stop always ends."""
    node = HttpNode(tmp_path, "stubborn")
    node.start()
    node.stop(grace=0.2)
    assert not is_listening(node.port)


def test_a_taken_port_is_named(node: HttpNode, tmp_path: Path) -> None:
    """Starting beside another program fails before anything is started."""
    node.start()
    second = HttpNode(tmp_path / "second")
    second.port = node.port
    with pytest.raises(StackError, match=f"port {node.port} is in use"):
        second.start()
    assert second.process_id is None


def test_a_running_node_is_not_started_twice(node: HttpNode) -> None:
    """The second start is refused, the first goes on."""
    node.start()
    with pytest.raises(StackError, match="runs already"):
        node.start()
    assert node.is_alive()


def test_a_process_with_the_same_pid_and_another_start_is_left_alone() -> None:
    """A pid read from an old file may belong to someone else by now: it is not signalled."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as other:
        real = ProcessId.of(other.pid)
        assert real is not None
        old = ProcessId(other.pid, "long ago")

        assert not old.is_alive()
        old.stop()
        old.kill()

        assert other.poll() is None
        real.kill()
        assert other.wait(60) == -signal.SIGKILL


def test_a_process_that_waits_to_be_reaped_has_ended() -> None:
    """A zombie is not alive."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        assert wait_until(lambda: ProcessId.of(child.pid) is None, 60)


def test_no_port_is_given_twice_nor_lies_where_connections_take_theirs() -> None:
    """A node's port stays its own while the node is not there yet, or is down."""
    taken = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", taken))
        other.listen()
        found = [free_port() for _ in range(100)]
    assert len({taken, *found}) == 101
    assert max(found) < 32_768


def test_a_process_and_the_next_one_choose_other_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the same moment, when nobody listens yet."""
    pid = os.getpid()
    mine = {free_port() for _ in range(100)}
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert not mine & {free_port() for _ in range(100)}


ORPHANING = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
from test_stack_process import HttpNode
node = HttpNode(Path(sys.argv[2]))
node.start()
print(*node.process_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_node_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Also when that process is killed and can clean up nothing."""
    command = [sys.executable, "-c", ORPHANING, __file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ}, check=False)
    pid, started = done.stdout.split()
    assert done.returncode == -signal.SIGKILL
    assert wait_until(lambda: not ProcessId(int(pid), started).is_alive(), 60)
