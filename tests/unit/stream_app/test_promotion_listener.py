"""The listener to promotion events, over a client that fails."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException

from machine_learning_engineering.kafka.broker_check import NoBrokersLeftError
from stream_app.runtime import reload
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.runtime.reload import ModelReloader, PromotionListener
from stream_app.settings import WorkerSettings


class Client:
    """librdkafka's consumer: the first forgets its brokers, the second finds them unreachable, the third works."""

    created: ClassVar[list["Client"]] = []

    def __init__(self, options: dict[str, Any]) -> None:
        assert "stats_cb" in options
        self.number = len(self.created)
        self.closed = False
        self.created.append(self)

    def list_topics(self, topic: str, _: float) -> Any:
        if self.number == 1:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions={0: None})})

    def get_watermark_offsets(self, _: Any, timeout: float) -> tuple[int, int]:
        return 0, 7

    def assign(self, partitions: list[Any]) -> None:
        assert [one.offset for one in partitions] == [7]

    def consume(self, _count: int, _timeout: float) -> list[Any]:
        if self.number == 0:
            raise NoBrokersLeftError
        threading.Event().wait(0.01)
        return [SimpleNamespace(error=lambda: None)]

    def close(self) -> None:
        self.closed = True


def test_it_connects_again_when_its_client_has_forgotten_all_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It retries until the broker responds, and reports a possible event: one may have been missed."""
    monkeypatch.setattr(Client, "created", [])
    monkeypatch.setattr(reload, "Consumer", Client)
    events = threading.Semaphore(0)
    listener = PromotionListener(WorkerSettings(_env_file=None, kafka_idle_pause=0.0), events.release)
    listener.start()
    for _ in range(3):
        assert events.acquire(timeout=60)
    listener.stop()
    assert [client.closed for client in Client.created] == [True, True, True]


def test_a_flood_of_events_is_one_look_at_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they say, and however many come while it looks: the registry alone says what is served."""
    looking, go_on = threading.Semaphore(0), threading.Semaphore(0)
    started: list[Any] = []
    served: list[Any] = []

    class Listener:
        def __init__(self, _settings: WorkerSettings, notify: Any) -> None:
            started.append(notify)

        def start(self) -> None:
            started[0]()

        def stop(self) -> None: ...

    class Registry:
        models: ClassVar[dict[str, Any]] = {}
        rollouts = SimpleNamespace(arms={}, open={}, problems={})
        has_new_arms = False
        refused: ClassVar[set[str]] = set()
        registry_problem = ""
        looks = 0

        def refresh(self) -> tuple[list[str], list[str]]:
            self.looks += 1
            looking.release()
            assert go_on.acquire(timeout=60)
            return [], []

    monkeypatch.setattr(reload, "PromotionListener", Listener)
    app, loaded = SimpleNamespace(should_stop=False), Registry()
    reloader = ModelReloader(app, loaded, served.append, WorkerMetrics())  # type: ignore[arg-type]
    settings = WorkerSettings(_env_file=None, worker_model_poll_interval=3_600.0)

    async def flood() -> None:
        running = asyncio.create_task(reloader.run(settings))
        assert await asyncio.to_thread(looking.acquire, True, 60)
        await asyncio.to_thread(lambda: [started[0]() for _ in range(1_000)])
        go_on.release()
        assert await asyncio.to_thread(looking.acquire, True, 60)
        app.should_stop = True
        go_on.release()
        await running

    asyncio.run(flood())
    assert (loaded.looks, served) == (2, [])
