"""A broker and Elasticsearch together, and the file that remembers them between commands."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, NamedTuple, Self

from inflight.stack.elasticsearch import ElasticsearchNode, folder_of_nobody
from inflight.stack.elasticsearch import distribution as elasticsearch_distribution
from inflight.stack.embedded import EmbeddedNode, binary
from inflight.stack.kafka import KafkaNode
from inflight.stack.kafka import jars as kafka_jars
from inflight.stack.process import Node, ProcessId, StackError
from machine_learning_engineering.core import files

Kind = Literal["embedded", "real"]

# Nothing else is believed: the addresses are printed for a shell, and clients connect to them.
_ADDRESSES = {
    "kafka": re.compile(r"127\.0\.0\.1:\d{1,5}", re.ASCII),
    "elasticsearch": re.compile(r"http://127\.0\.0\.1:\d{1,5}", re.ASCII),
}
_KINDS: dict[str, tuple[str, ...]] = {"embedded": ("embedded",), "real": ("kafka", "elasticsearch")}

# The embedded broker responds to an empty fetch at once: without a pause, each idle consumer uses half a core.
IDLE_PAUSE = 0.02


class Endpoints(NamedTuple):
    kafka_bootstrap_servers: str
    elasticsearch_url: str
    kafka_idle_pause: float = 0.0

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point every process at these nodes."""
        return {f"INFLIGHT_{field.upper()}": str(value) for field, value in self._asdict().items()}


class NodeState(NamedTuple):
    """A remembered node. It may have exited since, and its pid may belong to another process."""

    name: str
    process_id: ProcessId
    endpoints: dict[str, str]
    log: str

    def is_alive(self) -> bool:
        """Whether its process runs and is a node's that works in this folder: the file alone is not believed."""
        return self.process_id.is_alive() and self.process_id.works_in(Path(self.log).parent)


class StackState(NamedTuple):
    """The stack that `up` started, for `down` and `status`, stored in `<home>/stack/state.json`."""

    kind: Kind
    nodes: tuple[NodeState, ...]

    @property
    def endpoints(self) -> Endpoints:
        addresses = {service: address for node in self.nodes for service, address in node.endpoints.items()}
        return Endpoints(addresses["kafka"], addresses["elasticsearch"], IDLE_PAUSE if self.kind == "embedded" else 0.0)

    def is_alive(self) -> bool:
        return all(node.is_alive() for node in self.nodes)

    def stop(self) -> None:
        for node in self.nodes:
            if node.is_alive():
                node.process_id.stop()

    @classmethod
    def load(cls, home: Path) -> Self | None:
        """The stack that was last started in this home; None if there is none, or the file can't be believed.

        It can be if it is this user's alone and names nodes on the loopback interface that keep their files here.
        """
        try:
            with _state_file(home).open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                    return None
                read = json.loads(file.read())
            nodes = tuple(
                NodeState(str(n["name"]), ProcessId(int(n["pid"]), str(n["started"])), dict(n["endpoints"]), n["log"])
                for n in read["nodes"]
            )
            state = cls(read["kind"], nodes)
            _ = state.endpoints
            return state if _is_plausible(state, home) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return None

    def save(self, home: Path) -> None:
        path = _state_file(home)
        path.parent.mkdir(parents=True, exist_ok=True)
        nodes = [{"name": n.name, **n.process_id._asdict(), "endpoints": n.endpoints, "log": n.log} for n in self.nodes]
        with files.replacing(path) as partial:
            partial.touch(mode=0o600)
            files.write(partial, json.dumps({"kind": self.kind, "nodes": nodes}, indent=2).encode())

    @staticmethod
    def forget(home: Path) -> None:
        _state_file(home).unlink(missing_ok=True)


class Stack(AbstractContextManager["Stack"]):
    """Running nodes and their addresses. As a context manager it stops them at the end."""

    def __init__(self, kind: Kind, home: Path, nodes: Sequence[Node]) -> None:
        self.kind = kind
        self.home = home
        self.nodes = tuple(nodes)

    @property
    def state(self) -> StackState:
        """
        Raises:
            StackError: a node has never been started.
        """
        remembered = []
        for node in self.nodes:
            if node.process_id is None:
                raise StackError(f"{node.name} was not started")
            remembered.append(NodeState(node.name, node.process_id, node.endpoints, str(node.log_path)))
        return StackState(self.kind, tuple(remembered))

    @property
    def endpoints(self) -> Endpoints:
        return self.state.endpoints

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
        StackState.forget(self.home)

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_stack(
    kind: Kind,
    home: Path,
    *,
    kafka_port: int | None = None,
    elasticsearch_port: int | None = None,
    keep_running: bool = False,
    fresh: bool = False,
) -> Stack:
    """Start a broker and Elasticsearch below `<home>/stack` and wait until both respond.

    Args:
        kind: `embedded` is one small process; `real` is Apache Kafka and Elasticsearch, which need Java and Maven.
        kafka_port: the broker's port; None: any free port.
        elasticsearch_port: likewise.
        keep_running: the nodes outlive this process, until `down`. Otherwise they end with it.
        fresh: delete the data of an earlier stack of this kind first.

    Raises:
        StackError: a stack of this home runs already, a requirement of a node is missing, or a node doesn't start;
            no node is left running.
    """
    state = StackState.load(home)
    if state is not None and any(node.is_alive() for node in state.nodes):
        raise StackError(f"a stack runs already in {home}: use it (`inflight status`) or stop it with `inflight down`")
    folder, tied = home / "stack", not keep_running
    folder.mkdir(parents=True, exist_ok=True)
    nodes: tuple[Node, ...]
    if kind == "embedded":
        binary()
        embedded = EmbeddedNode(
            folder / "embedded", kafka_port=kafka_port, elasticsearch_port=elasticsearch_port, die_with_parent=tied
        )
        nodes = (embedded,)
    else:
        # Both downloads before the first start, so that neither node waits for the other's.
        kafka_jars()
        elasticsearch_distribution()
        nodes = (
            KafkaNode(folder / "kafka", port=kafka_port, die_with_parent=tied),
            ElasticsearchNode(folder / "elasticsearch", port=elasticsearch_port, die_with_parent=tied),
        )
    try:
        for node in nodes:
            if fresh and node.directory.exists():
                shutil.rmtree(node.directory)
            node.launch()
        stack = Stack(kind, home, nodes)
        # Before they are ready: if this process dies while it waits, `down` finds them.
        stack.state.save(home)
        for node in nodes:
            node.wait_ready()
    except BaseException:
        for node in nodes:
            node.kill()
        StackState.forget(home)
        raise
    return stack


def _state_file(home: Path) -> Path:
    return home / "stack" / "state.json"


def _is_plausible(state: StackState, home: Path) -> bool:
    """Whether `start_stack` may have written this: kinds, names, addresses and folders are its own."""
    if _KINDS.get(state.kind) != tuple(node.name for node in state.nodes):
        return False
    for node in state.nodes:
        # Signals to lower ones reach every process.
        if node.process_id.pid <= 1:
            return False
        folder = home.absolute() / "stack" / node.name
        folders = (folder, folder_of_nobody(folder)) if node.name == "elasticsearch" else (folder,)
        if node.log not in [str(one / f"{node.name}.log") for one in folders]:
            return False
        if not all(_ADDRESSES[service].fullmatch(address) for service, address in node.endpoints.items()):
            return False
    return True
