"""A stream with a rollout of the model `line`: requests and labels flow, workers and controllers are killed."""

import json
import threading
from collections import defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Self

from confluent_kafka import Producer

from inflight.adapters.rollouts import start_rollout
from inflight.settings import Settings
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.topics import LABELS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import producer_options, read_to_end, topic_name
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Rollout
from tests.support.programs.streaming import Program, running
from tests.support.shadow_model import save
from tests.support.waiting import until

SECONDS = 300.0
CUSTOMERS = 400
PER_SECOND = 200
QUICK = RolloutPolicy(
    ramp=(50,),
    key="customer",
    min_requests=100,
    min_labels=50,
    warm_up_requests=0,
    min_step=0.5,
    # v2 answers something else for every request, which is the point.
    max_psi=100.0,
    max_latency_ratio=1_000.0,
    max_shadow=120.0,
    max_canary=120.0,
    bake=240.0,
)


class RollingStream:
    """v1 doubles, v2 triples; the truth is three times the number. As a context manager it stops all at the end."""

    def __init__(self, settings: Settings, *, labels: bool = True) -> None:
        self.settings = settings
        self.registry = Registry(settings.registry_dir)
        save(self.registry, 2.0, 3.0)
        self.sent: dict[str, str] = {}
        """Customer by request."""
        self.bad: float | None = None
        """Every fourth request has this number instead, once it is set."""
        self._labels = labels
        self._producer = Producer({**producer_options(settings), "linger.ms": 10})
        self._stopping = threading.Event()
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._stack.close()

    def worker(self) -> Program:
        changes = {"worker_metrics_port": 0, "worker_model_poll_interval": 5.0, "kafka_session_timeout": 6.0}
        return self._stack.enter_context(running("rollout_worker", self.settings, **changes))

    def controller(self) -> Program:
        changes = {"rollout_interval": 0.3, "rollout_controller_metrics_port": 0}
        return self._stack.enter_context(running("rollout_control", self.settings, **changes))

    def feed(self) -> None:
        """Begin to send requests, and their labels."""
        self._feeder.start()

    def stop(self) -> None:
        """Send no more; what was sent is acknowledged."""
        self._stopping.set()
        if self._feeder.is_alive():
            self._feeder.join(120)
        assert self._producer.flush(120) == 0

    def start(self, policy: RolloutPolicy = QUICK) -> Rollout:
        return start_rollout(self.settings, self.registry, "line", "v2", policy=policy, reason="a test")

    @property
    def current(self) -> Rollout:
        found = self.registry.rollouts("line").current
        assert found is not None
        return found

    def reaches(self, *stages: str) -> Rollout:
        """Wait until the rollout is in one of these stages."""
        try:
            until(lambda: self.current.stage in stages, SECONDS, f"the rollout reaches {stages}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.current.steps}") from None
        return self.current

    def results(self) -> list[events.Result]:
        return [events.decode_result(one.value() or b"") for one in read_to_end(self.settings, RESULTS)]

    def answered(self) -> list[events.Result]:
        """Wait until everything that was sent is answered; return all answers, repeated ones too."""

        def complete() -> bool:
            return {one.request_id for one in self.results()} >= self.sent.keys()

        until(complete, SECONDS, "every request is answered")
        return self.results()

    def check(self, results: list[events.Result]) -> None:
        """No key changed its arm within a percentage, and no version answered that the record does not name."""
        versions = defaultdict(set)
        for one in results:
            assert one.model_version in (self.current.champion, self.current.challenger)
            arm = one.rollout
            if isinstance(arm, events.RolloutArm):
                assert arm.rollout_id == self.current.rollout_id
                versions[self.sent[one.request_id], arm.percent].add(arm.arm)
        assert all(len(found) == 1 for found in versions.values())

    def _feed(self) -> None:
        number = 0
        while not self._stopping.wait(1 / PER_SECOND):
            request_id, customer = f"r-{number}", f"c-{number % CUSTOMERS}"
            value = float(number % 97 + 1)
            if self.bad is not None and number % 4 == 0:
                value = self.bad
            features = {"number": value, "customer": customer}
            self._send(REQUESTS, request_id, {"request_id": request_id, "model": "line", "features": features})
            self.sent[request_id] = customer
            if self._labels:
                label = {"label": 3 * value, "observed_at": datetime.now(UTC).isoformat()}
                self._send(LABELS, request_id, {"request_id": request_id, "model": "line", **label})
            number += 1

    def _send(self, topic: str, key: str, value: dict[str, Any]) -> None:
        while True:
            try:
                self._producer.produce(topic_name(self.settings, topic), json.dumps(value).encode(), key.encode())
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)
