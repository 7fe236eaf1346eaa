"""`inflight run` as a supervisor: restarts, refusals, and the order in which processes stop."""

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from inflight.stack.process import Node, ProcessId, free_port, wait_until
from inflight.supervisor import managed, supervisor
from inflight.supervisor.managed import NotStarted
from inflight.supervisor.output import Output
from inflight.supervisor.specs import ProcessSpec
from inflight.supervisor.supervisor import Supervisor
from tests.unit.inflight.test_stack_process import HttpNode

# Notes its start and its end in a file, serves metrics, and ends as its arguments say.
PROGRAM = """
import http.server, os, pathlib, signal, sys, threading
port, notes, name, *how = sys.argv[1:]
def note(what):
    with open(notes, "a") as file:
        file.write(f"{name} {what}\\n")
def stop(*_):
    note("stops")
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in how else stop)
note("starts")
print("line of", name, flush=True)
first = pathlib.Path(notes).read_text().count(f"{name} starts") == 1
if "refuses" in how or ("fails-once" in how and first):
    sys.exit(2 if "refuses" in how else 1)
class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"up 1\\n")
        if "ends-once" in how and first:
            threading.Timer(0.1, os._exit, (2,)).start()
    def log_message(self, *_): ...
http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Metrics).serve_forever()
"""


def program(notes: Path, name: str, *how: str) -> ProcessSpec:
    port = free_port()
    argv = [sys.executable, "-c", PROGRAM, str(port), str(notes), name, *how]
    kind = name.rpartition("-")[0] or name
    return ProcessSpec(name, kind, argv, {**os.environ}, f"http://127.0.0.1:{port}/", re.compile("up 1"))


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes"
    path.touch()
    return path


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(supervisor, "_NODE_POLL_SECONDS", 0.05)


def supervise(
    specs: Sequence[ProcessSpec], condition: Callable[[str], bool], nodes: Sequence[Node] = (), signals: int = 1
) -> str:
    """Run processes until the output fulfils a condition, then send SIGTERM; returns the output."""
    stream = io.StringIO()
    output = Output([spec.name for spec in specs], text=True, colours=False, stream=stream)

    async def run() -> None:
        async def watch() -> None:
            async with asyncio.timeout(60):
                while not condition(stream.getvalue()):
                    await asyncio.sleep(0.02)
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.sleep(0.1)

        watching = asyncio.create_task(watch())
        await Supervisor(specs, nodes, output, "That is all.").run()
        watching.cancel()

    asyncio.run(run())
    return stream.getvalue()


def test_all_start_and_stop_in_order(notes: Path) -> None:
    """What accepts requests stops first, then what answers them, then what reads the outcomes."""
    specs = [program(notes, name) for name in ("worker-1", "worker-2", "gateway", "indexer")]
    text = supervise(specs, lambda text: "That is all." in text)
    lines = notes.read_text().splitlines()
    stops = [line for line in lines if line.endswith("stops")]
    assert stops[0] == "gateway stops"
    assert sorted(stops[1:3]) == ["worker-1 stops", "worker-2 stops"]
    assert stops[3:] == ["indexer stops"]
    assert "worker-1 │ line of worker-1" in text
    assert text.index("worker-1 │ ready") < text.index("worker-2 │ started"), "workers join one after the other"
    assert text.splitlines()[-1] == "run      │ stopped"


@pytest.mark.parametrize("how", ["fails-once", "ends-once"])
def test_what_ends_is_started_again(notes: Path, how: str) -> None:
    """Whatever its code, once it was ready; before that, if the code does not say that a setting is wrong."""
    specs = [program(notes, "indexer", how), program(notes, "exporter")]
    supervise(
        specs, lambda text: notes.read_text().count("indexer starts") == 2 and text.count("exporter │ ready") == 1
    )
    assert notes.read_text().count("exporter starts") == 1, "the others go on"


def test_a_killed_process_is_started_again(notes: Path) -> None:
    """As after a crash of native code, or by the kernel when memory is short."""
    killed = []

    def condition(text: str) -> bool:
        if not killed and "indexer │ ready" in text:
            found = re.search(r"started, pid (\d+)", text)
            assert found is not None
            killed.append(int(found[1]))
            os.kill(killed[0], signal.SIGKILL)
        return text.count("indexer │ ready") == 2

    text = supervise([program(notes, "indexer")], condition)
    assert "ended with signal SIGKILL; starts again in 0.05 s" in text


def test_what_can_not_start_ends_all(notes: Path) -> None:
    """Its own log says what is wrong; a restart would not help, and half a deployment helps nobody."""
    specs = [program(notes, "indexer"), program(notes, "exporter", "refuses")]
    with pytest.raises(NotStarted, match="exporter"):
        supervise(specs, lambda _: False)
    assert notes.read_text().count("exporter starts") == 1


def test_what_does_not_stop_is_killed(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time that draining may take, or at a second signal."""
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.3)
    text = supervise([program(notes, "indexer", "stubborn")], lambda text: "That is all." in text)
    assert "indexer │ did not stop within 0.3 s; killed" in text
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 60.0)
    text = supervise([program(notes, "indexer", "stubborn")], lambda text: "That is all." in text, signals=2)
    assert "did not stop" not in text


def test_a_node_that_ends_is_started_again(notes: Path, tmp_path: Path) -> None:
    """On the port that the processes know."""
    node = HttpNode(tmp_path / "node")
    node.start()
    first = node.process_id
    killed = []

    def condition(text: str) -> bool:
        if not killed and "That is all." in text:
            killed.append(True)
            node.kill()
        return bool(killed) and node.is_alive()

    try:
        text = supervise([program(notes, "indexer")], condition, [node])
    finally:
        node.stop()
    assert node.process_id != first
    assert "run     │ the node http ended; it starts again" in text


def test_processes_end_with_their_supervisor(notes: Path, tmp_path: Path) -> None:
    """However it ends: a process without its supervisor would hold ports and partitions."""
    script = f"""
import asyncio, re, sys
from inflight.supervisor.output import Output
from inflight.supervisor.specs import ProcessSpec
from inflight.supervisor.supervisor import Supervisor
argv = {[*program(notes, "indexer").argv]!r}
spec = ProcessSpec("indexer", "indexer", argv, {{}}, "http://127.0.0.1:1/", re.compile(""))
asyncio.run(Supervisor([spec], (), Output(["indexer"], text=True, colours=False), "").run())
"""
    log = tmp_path / "log"
    with log.open("w") as file:
        run = subprocess.Popen([sys.executable, "-c", script], stderr=file)
    try:
        assert wait_until(lambda: "line of indexer" in log.read_text(), 60), log.read_text()
        found = re.search(r"pid (\d+)", log.read_text())
        assert found is not None
        child = ProcessId.of(int(found[1]))
    finally:
        run.kill()
        run.wait()
    assert child is not None
    assert wait_until(lambda: not child.is_alive(), 30)


def test_output_for_people_and_for_machines(caplog: pytest.LogCaptureFixture) -> None:
    """Names in front of lines, nothing that controls a terminal; JSON as it is."""
    stream = io.StringIO()
    output = Output(["worker-1"], text=True, colours=False, stream=stream)
    output.line("worker-1", b"moves \x1b[2J up\xff")
    assert stream.getvalue() == "worker-1 │ moves \\x1b[2J up�\n"
    stream = io.StringIO()
    output = Output(["worker-1"], text=False, colours=False, stream=stream)
    output.line("worker-1", b'{"message":"x"}')
    assert json.loads(stream.getvalue()) == {"message": "x"}
    with caplog.at_level("INFO"):
        output.event("ready after 3 s", "process_ready", "worker-1", seconds=3)
    [record] = caplog.records
    assert record.message == "process ready"
    assert "worker-1" in str(record.__dict__)


def test_a_line_without_end_takes_no_memory_without_end(notes: Path) -> None:
    """It is printed in parts."""
    script = "import sys; sys.stdout.write('x' * 3_000_000); sys.stdout.flush(); sys.exit(2)"
    spec = program(notes, "indexer")
    spec = ProcessSpec(
        *(spec.name, spec.kind, [sys.executable, "-c", script], spec.environment, spec.metrics_url), spec.ready_when
    )
    stream = io.StringIO()
    with pytest.raises(NotStarted):
        asyncio.run(Supervisor([spec], (), Output(["indexer"], text=False, colours=False, stream=stream), "").run())
    longest = max(len(line) for line in stream.getvalue().splitlines())
    assert 1_000_000 < longest < 1_200_000
    assert stream.getvalue().count("x") >= 3_000_000
