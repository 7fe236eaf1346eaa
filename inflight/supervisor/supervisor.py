"""Runs all processes of a deployment until a signal, then stops them in order."""

import asyncio
import signal
import time
from collections import defaultdict
from collections.abc import Sequence

from inflight.stack.process import Node, StackError
from inflight.supervisor.managed import ManagedProcess
from inflight.supervisor.output import Output
from inflight.supervisor.specs import ProcessSpec

STOP_SECONDS = 60.0
"""How long a process may take to finish what is in flight."""
_NODE_POLL_SECONDS = 1.0
# What accepts requests, then what answers them; after these, all that read the outcomes.
_STOPS_FIRST = ("gateway", "worker")


class Supervisor:
    """Starts processes, starts them again when they end, and stops them.

    Args:
        specs: the processes, in the order in which they start and stop.
        nodes: running nodes that are started again when they end.
        output: gets logs and events.
        ready_message: said once all are ready.
    """

    def __init__(self, specs: Sequence[ProcessSpec], nodes: Sequence[Node], output: Output, ready_message: str) -> None:
        turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._processes = [ManagedProcess(spec, output, turns[spec.kind]) for spec in specs]
        self._nodes = nodes
        self._output = output
        self._ready_message = ready_message
        self._stopping = asyncio.Event()
        self._failed: Exception | None = None

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT, then stop all processes; a second signal kills them.

        Raises:
            NotStarted: a process can't start; the others are stopped.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        tasks = [asyncio.create_task(self._keep(process)) for process in self._processes]
        helpers = [asyncio.create_task(one) for one in (self._announce(), self._keep_nodes())]
        await self._stopping.wait()
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await self._stop()
        await asyncio.gather(*tasks)
        if self._failed is not None:
            raise self._failed

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            for process in self._processes:
                process.signal(signal.SIGKILL)
            return
        self._output.event("stopping: what is in flight is finished; once more kills", "stopping")
        self._stopping.set()

    async def _keep(self, process: ManagedProcess) -> None:
        try:
            await process.run()
        except Exception as error:
            # Not one of them goes on unseen without the others.
            self._failed = error
            self._stopping.set()

    async def _announce(self) -> None:
        began = time.monotonic()
        for process in self._processes:
            await process.ready.wait()
        seconds = round(time.monotonic() - began, 1)
        self._output.event(
            f"all processes are ready after {seconds:g} s. {self._ready_message}", "ready", seconds=seconds
        )

    async def _keep_nodes(self) -> None:
        """Start nodes of this deployment again, on the same ports and data; clients wait meanwhile."""
        while self._nodes:
            await asyncio.sleep(_NODE_POLL_SECONDS)
            for node in self._nodes:
                if node.is_alive():
                    continue
                self._output.event(f"the node {node.name} ended; it starts again", "node_ended", node=node.name)
                try:
                    await asyncio.to_thread(node.start)
                except StackError as error:
                    self._output.event(str(error), "node_not_started", node=node.name, cause=str(error))

    async def _stop(self) -> None:
        for stage in range(len(_STOPS_FIRST) + 1):
            now = [process for process in self._processes if _stage(process) == stage]
            await asyncio.gather(*(process.stop(STOP_SECONDS) for process in now))
        self._output.event("stopped", "stopped")


def _stage(process: ManagedProcess) -> int:
    kind = process.spec.kind
    return _STOPS_FIRST.index(kind) if kind in _STOPS_FIRST else len(_STOPS_FIRST)
