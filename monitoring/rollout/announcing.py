"""Steps of rollouts on the topic of model events, each at least once."""

from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec
from confluent_kafka import KafkaException, Producer
from msgspec import UNSET

from machine_learning_engineering.events.schemas import ModelPromoted, RolloutChanged, encode
from machine_learning_engineering.events.topics import MODEL_EVENTS
from machine_learning_engineering.kafka.client import producer_options, send, topic_name
from machine_learning_engineering.registry.rolling import Flip
from machine_learning_engineering.rollout.record import Rollout, Rollouts
from machine_learning_engineering.settings import KernelSettings

Publish = Callable[[RolloutChanged | ModelPromoted], None]


def steps_of(rollout: Rollout, after: int = 0) -> Iterator[RolloutChanged]:
    """The events of a rollout's steps whose number is greater than `after`."""
    for step in rollout.steps[after:]:
        yield RolloutChanged(
            model=rollout.model,
            rollout_id=rollout.rollout_id,
            step=step.number,
            action=step.action,
            changed_at=step.at,
            by=step.by,
            reason=step.reason,
            stage=step.stage,
            percent=step.percent,
            champion=rollout.champion,
            challenger=rollout.challenger,
            trigger=rollout.trigger,
            verdict=UNSET if step.verdict is None else msgspec.Raw(msgspec.json.encode(step.verdict)),
        )


def promotion_of(flip: Flip, now: datetime) -> ModelPromoted:
    """The event of a champion that a rollout has made."""
    return ModelPromoted(flip.model, flip.version, now, flip.reason, flip.previous or UNSET)


class EventPublisher:
    """Publishes model events; each is acknowledged by all in-sync replicas, or it is an error.

    Args:
        settings: Connection and prefix.
        timeout: Seconds to wait for the acknowledgement.
    """

    def __init__(self, settings: KernelSettings, timeout: float = 10.0) -> None:
        self._options = {
            **producer_options(settings),
            "delivery.timeout.ms": int(timeout * 1000),
            # Whoever calls it reports an error, with its effect.
            "error_cb": lambda error: None,
            "log_level": 0,
        }
        self._topic = topic_name(settings, MODEL_EVENTS)
        self._timeout = timeout
        self._producer: Producer | None = None

    def __call__(self, event: RolloutChanged | ModelPromoted) -> None:
        """Publish one event.

        Raises:
            KafkaException: The broker rejects it.
            TimeoutError: It is not acknowledged in time; it may still arrive.
        """
        if self._producer is None:
            self._producer = Producer(self._options)
        key = f"{event.__struct_config__.tag}/{event.model}"
        if isinstance(event, RolloutChanged):
            # The topic is compacted, and each step stays.
            key += f"/{event.rollout_id}/{event.step}"
        try:
            send(self._producer, self._topic, encode(event), key.encode(), self._timeout)
        except (KafkaException, TimeoutError):
            # Perhaps the client has forgotten all brokers, see `kafka.broker_check`: a new one can connect.
            self._producer = None
            raise


class Announcer:
    """Publishes the steps that were not published yet, by this process. Repeated steps have the same identity."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._published: dict[str, dict[str, int]] = {}

    def announce(self, model: str, rollouts: Rollouts) -> int:
        """Publish the steps of the last two rollouts of a model; return how many there were.

        Raises:
            KafkaException, TimeoutError: As `publish` does; the next call goes on where this one has stopped.
        """
        found = [*rollouts.past[-1:], *([] if rollouts.current is None else [rollouts.current])]
        known = self._published.get(model, {})
        known = self._published[model] = {one.rollout_id: known.get(one.rollout_id, 0) for one in found}
        count = 0
        for rollout in found:
            for event in steps_of(rollout, known[rollout.rollout_id]):
                self._publish(event)
                known[rollout.rollout_id] = event.step
                count += 1
        return count
