"""The product's own processes over the topics of one test, restarted as a supervisor would; and the oracle."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
from confluent_kafka import Consumer, TopicPartition

from inflight.settings import Settings
from inflight.supervisor.specs import READY
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionCompleted
from machine_learning_engineering.events.topics import LOGS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import consumer_options, read_to_end, topic_name
from machine_learning_engineering.sdk import MLEModel
from monitoring.audit.audit import Audit
from monitoring.audit.readers import run_audit
from monitoring.exporter.lag import LagReader
from monitoring.runtime.groups import INDEXER, WORKER
from producers.replay import ReplayReport
from producers.request_builder import Source
from tests.support.load import Load
from tests.support.supervised import Supervised
from tests.support.waiting import told, until

UNTIL_STOPPED = 10_000_000
"""Requests of a load that lasts as long as its test does, however slow the machine is."""
SESSION_TIMEOUT = 6.0
"""Of consumers, in seconds: a broker allows no shorter one. So long a group waits for a member that was killed."""
SETTLE_SECONDS = 300.0
"""Like all limits here this one ends a hang: it is many times what a small machine needs."""


class Deployment:
    """Workers and indexers of one test. As a context manager it stops all of them at the end."""

    def __init__(self, settings: Settings, models: Settings, model: MLEModel) -> None:
        # A broker that is away on purpose is no news: librdkafka would fill the terminal with it.
        # After its broker was restarted, kafka-python may stop sending: a new producer takes over after this time-out,
        # and waits for a broker that is away as long as a worker does.
        changes: dict[str, Any] = {"kafka_options": {"log_level": "0"}, "producer_delivery_timeout": 20.0}
        self.settings = settings.model_copy(update=changes)
        self.environment = {
            "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "INFLIGHT_ELASTICSEARCH_URL": settings.elasticsearch_url,
            "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
            "INFLIGHT_KAFKA_SESSION_TIMEOUT": str(SESSION_TIMEOUT),
            "INFLIGHT_HOME": str(models.home.absolute()),
        }
        self._models = models
        self._model = model
        self._directory: Path = settings.home / "processes"
        self._lag = LagReader(self.settings, timeout=20.0)
        self._reader = Consumer(consumer_options(self.settings, "watching"))
        self._processes: list[Supervised] = []
        self._loads: list[Load] = []
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        for load in self._loads:
            load.stop()
        self._closing.set()
        self._supervisor.join()
        for process in self._processes:
            # A stopped process takes no SIGTERM until it is continued.
            with contextlib.suppress(ProcessLookupError):
                if process.is_alive():
                    os.kill(process.pid, signal.SIGCONT)
            process.kill()
        for load in self._loads:
            load.join(600)
        # Where a test failed, its traceback keeps this object, and a client that outlives its broker ends late.
        del self._lag, self._reader

    # Processes

    def worker(self, **environment: object) -> Supervised:
        """A new worker, launched; `environment` without the prefix INFLIGHT_ and in lower case."""
        return self._launch("worker", environment)

    def indexer(self, **environment: object) -> Supervised:
        """A new indexer, launched."""
        return self._launch("indexer", environment)

    def exporter(self, **environment: object) -> Supervised:
        """A new exporter, launched."""
        return self._launch("exporter", environment)

    def drift_monitor(self, **environment: object) -> Supervised:
        """A new drift monitor, launched."""
        return self._launch("drift-monitor", environment)

    def label_joiner(self, **environment: object) -> Supervised:
        """A new label joiner, launched; it opens the registry."""
        return self._launch("label-joiner", environment)

    def gateway(self, port: int, **environment: object) -> Supervised:
        """A new gateway, launched; it opens the registry."""
        return self._launch("gateway", {"gateway_port": port, **environment})

    def features(self, **environment: object) -> Supervised:
        """A new process that fills the feature store, launched."""
        return self._launch("features follow", environment)

    def archive(self, url: str = "", **environment: object) -> Supervised:
        """A new archive, launched; its database is a SQLite file of the test unless there is an address."""
        address = url or f"sqlite:///{(self.settings.home / 'archive.sqlite').absolute()}"
        return self._launch("archive", {"archive_url": address, **environment})

    def rollout_controller(self, **environment: object) -> Supervised:
        """A new rollout controller, launched; it opens the registry, and looks every half second."""
        return self._launch("rollout-controller", {"rollout_interval": 0.5, **environment})

    def retrainer(self, **environment: object) -> Supervised:
        """A new retrainer, launched; its policies are in the home."""
        return self._launch("retrainer", environment)

    def _launch(self, command: str, changes: dict[str, object]) -> Supervised:
        variables = self.environment | {f"INFLIGHT_{name.upper()}": str(value) for name, value in changes.items()}
        name, kind = f"{command.split()[0]}-{len(self._processes) + 1}", command.replace("-", "_")
        # A worker that owns no partition has nothing to lose.
        owns = f"inflight_{kind}_assigned_partitions [1-9]" if kind in ("worker", "drift_monitor") else ""
        if kind == "gateway":
            owns = READY["gateway"]
        process = Supervised(name, command, self._directory, variables, owns)
        self._processes.append(process)
        self.start(process)
        return process

    def start(self, process: Supervised) -> None:
        """Launch a process that is down; it is kept running from now on."""
        with self._lock:
            process.launch()
            process.wanted = True

    def stop(self, process: Supervised) -> float:
        """SIGTERM, and no restart. Returns the seconds until it ended; it has to end by itself and with code 0."""
        started = time.monotonic()
        with self._lock:
            process.wanted = False
            process.stop(grace=30.0)
        assert process.exit_codes[-1] == 0, f"{process.name} ended with {process.exit_codes[-1]}.\n{process.log_tail()}"
        return time.monotonic() - started

    def abandon(self, process: Supervised) -> None:
        """No restart from now on."""
        process.wanted = False

    def kill(self, process: Supervised) -> None:
        """kill -9; it is started again at once, if it was meant to run."""
        with self._lock:
            process.kill()

    def _supervise(self) -> None:
        while not self._closing.wait(0.1):
            with self._lock:
                for process in self._processes:
                    if process.wanted and not process.is_alive():
                        process._reap()
                        process.launch()

    # What can be seen of it

    def lag(self) -> tuple[int, int]:
        """Requests that wait for the workers, and logs that wait for the indexers: what is not committed."""
        behind = self._lag.read()
        return behind[WORKER, REQUESTS], behind[INDEXER, LOGS]

    def results(self) -> int:
        """Records on the topic of results."""
        name = topic_name(self.settings, RESULTS)
        partitions = self._reader.list_topics(name, timeout=10.0).topics[name].partitions
        return sum(self._reader.get_watermark_offsets(TopicPartition(name, p), timeout=10.0)[1] for p in partitions)

    def owners(self) -> list[int]:
        """How many partitions each worker that answers owns, by its own word.

        Not asked of the broker: librdkafka's admin client ends the process when a group's coordinator is still loading.
        """
        workers = [process for process in self._processes if process.name.startswith("worker")]
        answering = [process for process in workers if process.is_alive() and not process.stands_still()]
        owned = [process.metric("inflight_worker_assigned_partitions") for process in answering]
        return [int(partitions) for partitions in owned if partitions]

    def serving(self, workers: int, seconds: float = 300.0) -> float:
        """Wait until so many workers share the partitions."""
        expected = min(workers, self.settings.topic_partitions)
        return until(
            lambda: len(owners := self.owners()) == expected and sum(owners) == self.settings.topic_partitions,
            seconds,
            f"{workers} workers share the partitions",
        )

    def owns(self, partitions: int, workers: int = 1, seconds: float = 300.0) -> float:
        """Wait until the workers share the partitions, those of sources included."""
        return until(
            lambda: len(owners := self.owners()) == workers and sum(owners) == partitions,
            seconds,
            f"{workers} workers own {partitions} partitions",
        )

    def settles(self, *, index: bool = False, seconds: float = SETTLE_SECONDS) -> float:
        """Wait until everything that is on the topics is answered (and indexed) and committed."""
        try:
            return until(lambda: not any(self.lag() if index else self.lag()[:1]), seconds, "nothing waits any more")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self._state()}") from None

    def answers_more(self, by: int = 1, seconds: float = 300.0) -> float:
        """Wait until there are so many more results than now."""
        before: int | None = None

        def more() -> bool:
            # The first look, too, may meet a broker that has just come back and does not lead its partitions yet.
            nonlocal before
            found = self.results()
            if before is None:
                before = found
            return found >= before + by

        try:
            return until(more, seconds, f"there are {by} more results")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self._state()}") from None

    def _state(self) -> str:
        """What a reader of a failure wants to know."""
        accepted = [load.accepted for load in self._loads]
        tails = "\n".join(process.log_tail() for process in self._processes)
        return f"lag {told(self.lag)}, partitions by owner {self.owners()}, accepted {accepted}\n{tails}"

    # Load and oracle

    def diamonds(self, count: int) -> Iterator[dict[str, Any]]:
        """The features of so many diamonds, in the order of the dataset and again from its start."""
        while count > 0:
            for features in type(self._model).example_requests(self._models.data_dir):
                if count <= 0:
                    return
                count -= 1
                yield features

    def prices(self, count: int) -> Iterator[float]:
        """The true answers to `diamonds`."""
        while count > 0:
            for example in type(self._model).examples(self._models.data_dir):
                if count <= 0:
                    return
                count -= 1
                yield example.label

    def load(self, requests: Iterable[Source] | int, *, rate: float | None = None, prefix: str = "f") -> Load:
        """Begin to publish requests, or so many diamonds."""
        source = self.diamonds(requests) if isinstance(requests, int) else requests
        load = Load(self.settings, source, rate, prefix)
        self._loads.append(load)
        load.start()
        return load

    def verify(self, report: ReplayReport, *, repeats: bool, prefix: str = "", index: bool = False) -> Audit:
        """The oracle: none lost, one outcome an id, every prediction equal to a recomputation, all indexed.

        Args:
            repeats: whether a result may be on the topic a second time, saying the same.
        """
        found = run_audit(self.settings, prefix, index=index)
        assert found.passed, found
        assert found.orphans == found.conflicts == 0, found
        assert found.accepted == found.completed + found.failed + found.dead_letters, found
        assert report.accepted <= found.accepted <= report.accepted + report.indeterminate, (report.errors, found)
        assert report.failed == 0, report.errors
        assert found.results_seen == found.completed + found.failed + found.repeats, found
        assert repeats or not found.repeats, found
        if index:
            assert found.unindexed == found.index_dead_letters == 0, found
            assert found.indexed_distinct == found.completed + found.failed, found
        accepted = set(report.ids["accepted"])
        answered = self._recompute()
        if not found.failed and not found.dead_letters:
            assert accepted <= answered
        return found

    def _recompute(self) -> set[str]:
        """Compare every prediction on the topic, repeats too, with one made here; the ids that have one."""
        results = [events.decode_result(record.value() or b"") for record in read_to_end(self.settings, RESULTS)]
        completed = [result for result in results if isinstance(result, PredictionCompleted)]
        wanted = {result.request_id for result in completed}
        rows = {}
        for record in read_to_end(self.settings, REQUESTS):
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                request = events.decode_request(record.value() or b"")
                if request.request_id in wanted:
                    rows[request.request_id] = self._model.decode(request.features)
        predictions = dict(zip(rows, map(events.encode, self._model.predict(list(rows.values()))), strict=True))
        for result in completed:
            assert bytes(result.prediction) == predictions[result.request_id], result
            assert result.model_version == self._model.version
        return wanted
