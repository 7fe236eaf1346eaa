"""Rollouts as commands change them: the record, then the champion's alias, then the stream."""

from collections.abc import Callable
from datetime import UTC, datetime

import typer

from inflight.settings import Settings
from inflight.stack.probes import anything_listens
from machine_learning_engineering.policies import load_policies
from machine_learning_engineering.registry.aliases import current_user
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.rolling import Flip, change_rollouts, reconcile
from machine_learning_engineering.registry.uri import CHAMPION
from machine_learning_engineering.rollout import machine
from machine_learning_engineering.rollout.machine import RolloutRefused
from machine_learning_engineering.rollout.policy import ModelPolicy, RolloutPolicy
from machine_learning_engineering.rollout.record import Rollout, Rollouts

ANNOUNCE_SECONDS = 3.0


def policy_of(settings: Settings, model: str) -> RolloutPolicy:
    """How rollouts of a model proceed, by `inflight.toml`; by default without an entry.

    Raises:
        InvalidPolicies: The file can't be used.
    """
    return load_policies(settings).get(model, ModelPolicy()).rollout


def start_rollout(
    settings: Settings,
    registry: Registry,
    model: str,
    challenger: str,
    *,
    policy: RolloutPolicy,
    reason: str,
    by: str = "",
    trigger: str = "",
) -> Rollout:
    """Start the rollout of a version in place of the champion, and announce it.

    Args:
        settings: Where it is announced.
        registry: Has the versions.
        model: Its name.
        challenger: The version, such as ``v3``.
        policy: How it proceeds.
        reason: Why it starts.
        by: Who starts it; by default the user of this process.
        trigger: What the challenger was trained for.

    Raises:
        RolloutRefused: Another one is open, the version is barred or the champion, or there is no champion.
        RegistryError: The version is unknown or damaged, or the record is unreadable.
    """
    registry.verify(model, challenger)

    def start(rollouts: Rollouts) -> Rollouts:
        champion = registry.aliases(model).get(CHAMPION)
        if champion is None:
            raise RolloutRefused(
                f"model `{model}` has no champion to compare {challenger} with: make the first one with "
                f"inflight models promote {model}:{challenger}"
            )
        return machine.start(
            rollouts,
            model=model,
            champion=champion,
            challenger=challenger,
            policy=policy,
            now=datetime.now(UTC),
            by=by or current_user(),
            reason=reason,
            trigger=trigger,
        )

    return change(settings, registry, model, start)


def change(settings: Settings, registry: Registry, model: str, edit: Callable[[Rollouts], Rollouts]) -> Rollout:
    """Change the rollouts of a model, let its alias follow at once, and announce what is new.

    Raises:
        RolloutRefused: `edit` refuses.
        RegistryError: The record is unreadable, or others are faster each time.
    """
    before, first = reconcile(registry, model, datetime.now(UTC))
    known = {} if before.current is None else {before.current.rollout_id: len(before.current.steps)}
    change_rollouts(registry, model, edit)
    rollouts, second = reconcile(registry, model, datetime.now(UTC))
    assert rollouts.current is not None
    announce(settings, rollouts.current, known.get(rollouts.current.rollout_id, 0), [first, second])
    return rollouts.current


def announce(settings: Settings, rollout: Rollout, after: int, flips: list[Flip | None]) -> None:
    """Tell the stream of the steps after number `after` and of new champions.

    Without a broker they stand all the same: workers poll the registry, and the controller announces them later.
    """
    from confluent_kafka import KafkaException

    from machine_learning_engineering.kafka.client import create_topics
    from monitoring.rollout.announcing import EventPublisher, promotion_of, steps_of

    servers = settings.kafka_bootstrap_servers
    try:
        # A Kafka client would retry for seconds and report each attempt.
        if not anything_listens(servers):
            raise TimeoutError(f"there is no broker at {servers}")
        create_topics(settings, ANNOUNCE_SECONDS)
        publish = EventPublisher(settings, ANNOUNCE_SECONDS)
        for event in steps_of(rollout, after):
            publish(event)
        for flip in filter(None, flips):
            publish(promotion_of(flip, datetime.now(UTC)))
    except (KafkaException, TimeoutError) as error:
        poll = f"Running workers poll the registry every {settings.worker_model_poll_interval:g} s."
        typer.secho(f"the rollout of {rollout.model} was not announced: {error}. {poll}", err=True, dim=True)
