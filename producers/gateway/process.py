"""`inflight gateway`: assembles the parts, serves until SIGTERM, and drains."""

import asyncio
import contextlib
import logging
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable

from machine_learning_engineering.observability.health import metrics_app
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.observability.metrics_server import start_metrics_server
from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from machine_learning_engineering.settings import http_url
from producers.gateway.access import Access, require_protection
from producers.gateway.addresses import Address
from producers.gateway.app import create_app
from producers.gateway.budget import Budget
from producers.gateway.bulk.endpoints import Bulk
from producers.gateway.call_events import CallEvents
from producers.gateway.call_log import CallLog
from producers.gateway.catalog import Catalog
from producers.gateway.console.routes import ConsoleRoutes
from producers.gateway.console.sources import ConsoleSources
from producers.gateway.console.watch import Watch
from producers.gateway.kafka_stream import CLOSE_SECONDS, KafkaStream
from producers.gateway.keys import KeyFile, KeysError
from producers.gateway.live.endpoints import Live
from producers.gateway.live.hub import Hub
from producers.gateway.live.kafka_source import KafkaSource
from producers.gateway.metrics import GatewayMetrics
from producers.gateway.open_inference.endpoints import OpenInference
from producers.gateway.predictor import Predictor
from producers.gateway.routes import Routes
from producers.gateway.server import Server, listen, new_server
from producers.gateway.settings import GatewaySettings
from producers.gateway.stream import History

logger = logging.getLogger(__name__)

PROCESS = "gateway"
# Of the drain time, what is left to send the answers.
_ANSWER_SECONDS = 2.0
# Event loop, sender, tail and the clients' own threads share the interpreter lock: 5 ms would show in the p99.
_SWITCH_SECONDS = 0.001


def run(settings: GatewaySettings, history: History, console: ConsoleSources | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then let open requests end.

    Args:
        console: what the console asks of others; without it, there is none.

    Raises:
        Unprotected: it would be open to others.
        KeysError: the file of keys is unreadable.
        PortInUse, OSError: a port is taken.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Of a broker that is away kafka-python says some twenty lines a second; the tail says it once a minute.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    _raise_file_limit(settings.gateway_max_connections)
    asyncio.run(_Gateway(settings, history, console).run())


class _Gateway:
    def __init__(self, settings: GatewaySettings, history: History, console: ConsoleSources | None) -> None:
        self._settings = settings
        self._history = history
        self._console = console
        self._keys = KeyFile(settings.gateway_keys_file)
        self._keys.refresh()
        require_protection(settings, self._keys)
        self._catalog = Catalog(settings.registry_dir)
        self._metrics = GatewayMetrics()

    async def run(self) -> None:
        settings = self._settings
        await asyncio.to_thread(self._catalog.refresh)
        stream = KafkaStream(settings)
        predictor = Predictor(stream, self._history, settings.gateway_max_rows)
        budget = Budget(
            settings.gateway_max_in_flight,
            settings.gateway_max_in_flight_per_caller,
            settings.gateway_max_in_flight_bytes,
        )
        routes = Routes(settings, stream, predictor, self._catalog, budget)
        access = Access(settings, self._keys)
        source = KafkaSource(settings)
        hub = Hub(
            source,
            settings.gateway_stream_backlog,
            settings.gateway_max_streams,
            settings.gateway_max_streams_per_caller,
        )
        inference = OpenInference(settings, stream, predictor, self._catalog, budget)
        bulk = Bulk(settings, stream, predictor, self._catalog, budget, routes.predict)
        watch, console = self._build_console(access, stream)
        more = [*inference.addresses(), *bulk.addresses(), *Live(hub).addresses(), *console]
        calls = None
        if settings.gateway_call_log:
            calls = CallLog(settings, CallEvents(settings, self._catalog), self._metrics.calls)
        app = create_app(
            routes,
            access,
            self._metrics,
            settings.gateway_cors_origins,
            more,
            None if calls is None else calls.add,
            settings.gateway_call_body_bytes,
        )
        server = new_server(
            app,
            connections=settings.gateway_max_connections,
            header_seconds=settings.gateway_body_timeout,
            drain_seconds=settings.gateway_drain_timeout,
        )
        readings: dict[str, Callable[[], float]] = {
            "in_flight_rows": lambda: budget.rows,
            "in_flight_bytes": lambda: budget.bytes,
            "recalled_requests": lambda: len(stream.recall),
            "repeated_results": lambda: stream.recall.repeats,
            "ready": lambda: not stream.problem,
            "connections": lambda: len(server.server_state.connections),
            "streams": lambda: hub.subscribers,
            "stream_overflows": lambda: hub.overflows,
        }
        self._metrics.watch(readings)
        try:
            async with self._serve_metrics() as address, self._polling():
                await self._serve(server, predictor, (hub.drain, bulk.drain), address)
        finally:
            hub.close()
            await asyncio.to_thread(source.close, CLOSE_SECONDS)
            await asyncio.to_thread(stream.close)
            if watch is not None:
                await asyncio.to_thread(watch.close)
            if calls is not None:
                await asyncio.to_thread(calls.close, CLOSE_SECONDS)

    def _build_console(self, access: Access, stream: KafkaStream) -> tuple[Watch | None, list[Address]]:
        if self._console is None:
            return None, []
        watch = Watch(self._settings, self._console.lags)
        routes = ConsoleRoutes(self._settings, access, stream, self._catalog, watch, self._console.logbook)
        return watch, routes.addresses()

    async def _serve(
        self, server: Server, predictor: Predictor, drains: Iterable[Callable[[], None]], metrics: str
    ) -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if server.should_exit:
                server.force_exit = True
            server.should_exit = True
            for drain in drains:
                drain()
            wait = max(0.0, self._settings.gateway_drain_timeout - _ANSWER_SECONDS)
            loop.call_later(wait, predictor.drain)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        with listen(self._settings.gateway_host, self._settings.gateway_port) as socket:
            address = http_url(self._settings.gateway_host, socket.getsockname()[1])
            keys = "required" if self._keys.exists else "none"
            log_event(PROCESS, "started", address=address, metrics=metrics, keys=keys)
            await server.serve(sockets=[socket])
        log_event(PROCESS, "stopped")

    @contextlib.asynccontextmanager
    async def _serve_metrics(self) -> AsyncIterator[str]:
        settings = self._settings
        application = metrics_app(self._metrics.registry)
        server, _ = start_metrics_server(application, settings.metrics_host, settings.gateway_metrics_port)
        try:
            yield f"{http_url(settings.metrics_host, server.server_port)}/metrics"
        finally:
            await asyncio.to_thread(server.shutdown)
            server.server_close()

    @contextlib.asynccontextmanager
    async def _polling(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _poll(self) -> None:
        """Follow the registry and the file of keys."""
        while True:
            await asyncio.sleep(self._settings.gateway_registry_poll_interval)
            try:
                await asyncio.to_thread(self._catalog.refresh)
                await asyncio.to_thread(self._keys.refresh)
            except (KeysError, OSError) as error:
                logger.warning("%s", error, extra=RATE_LIMITED)


def _raise_file_limit(connections: int) -> None:
    """Let the process open a file for each connection, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Beside them: logs, the registry, the broker, and connections that are refused at this moment.
    wanted = 2 * connections + 512
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
