"""How a rollout and the champion's alias agree: the record is written first, with what is meant, and the alias follows.

Whoever is killed between the two leaves a record whose alias has yet to follow; `reconcile`, which everybody calls
before anything else, lets it follow. It is idempotent, and several may call it at a time. In a folder both files have
one lock, so neither is written while the other is edited.
"""

import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Literal, TypeVar

from msgspec import Struct

from machine_learning_engineering.registry import aliases as alias_file
from machine_learning_engineering.registry import rollouts as rollout_file
from machine_learning_engineering.registry.manifest import AliasChange, AliasesChanged, RegistryError
from machine_learning_engineering.registry.reader import RegistryReader
from machine_learning_engineering.registry.uri import CHAMPION
from machine_learning_engineering.rollout import machine
from machine_learning_engineering.rollout.record import Rollout, Rollouts

ResultT = TypeVar("ResultT")

_ATTEMPTS = 20
"""How often a change that meets another one is made again."""


class Flip(Struct, frozen=True):
    """A new champion that a rollout has made, and the version before it."""

    model: str
    version: str
    previous: str | None
    reason: str


def until_written(edit: Callable[[], ResultT]) -> ResultT:
    """Edit aliases or rollouts, again from the start as long as another machine is faster.

    Raises:
        AliasesChanged: Others are faster each time.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return edit()
        except AliasesChanged:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0, 0.05 * (attempt + 1)))
    raise AssertionError("unreachable")


def change_rollouts(registry: RegistryReader, name: str, edit: Callable[[Rollouts], Rollouts]) -> Rollouts:
    """Change the rollouts of a model, and again from the start if another machine was faster.

    Args:
        registry: Has the model.
        name: Of the model.
        edit: Called with the rollouts as they are now, perhaps more than once. If it raises, nothing changes.

    Raises:
        AliasesChanged: Others are faster each time.
        CorruptModel: The file is unreadable.
    """
    return until_written(lambda: rollout_file.change(registry.files, name, edit))


def reconcile(registry: RegistryReader, name: str, now: datetime) -> tuple[Rollouts, Flip | None]:
    """Let the alias of the champion follow the rollout; or end the rollout, if somebody else has moved the alias.

    Returns:
        The rollouts as they are after, and the change of the champion that was made.

    Raises:
        CorruptModel: A file of the model is unreadable, or the version to promote is damaged.
        AliasesChanged: Others are faster each time.
        StoreUnavailable: The store is unavailable.
    """
    rollouts = registry.rollouts(name)
    if rollouts.current is None:
        return rollouts, None
    wanted = _wanted(rollouts, registry.aliases(name).get(CHAMPION), registry.history(name))
    if wanted == "nothing":
        return rollouts, None
    if wanted == "end":
        return change_rollouts(registry, name, lambda found: _ended(registry, found, name, now)), None
    flip = until_written(lambda: _follow(registry, name))
    return registry.rollouts(name), flip


def refuse_barred(registry: RegistryReader, name: str, version: str) -> None:
    """Raise `RegistryError` if a version may not become the champion."""
    try:
        machine.refuse_barred(registry.rollouts(name), name, version)
    except machine.RolloutRefused as error:
        raise RegistryError(str(error)) from None


def reason_of(rollout: Rollout) -> str:
    """The reason in the history of the aliases for what a rollout has changed."""
    return f"rollout {rollout.rollout_id}"


def _wanted(
    rollouts: Rollouts, champion: str | None, history: list[AliasChange]
) -> Literal["nothing", "end", "challenger", "champion"]:
    """What has to follow: nothing, the end of the rollout, or the champion's alias, to one of its versions."""
    rollout = rollouts.current
    assert rollout is not None
    changes = [change for change in history if change.alias == CHAMPION]
    if rollout.is_open:
        if champion == (rollout.challenger if rollout.stage == "bake" else rollout.champion):
            return "nothing"
        promoted = any(one.reason == reason_of(rollout) and one.version == rollout.challenger for one in changes)
        return "challenger" if rollout.stage == "bake" and champion == rollout.champion and not promoted else "end"
    if champion != rollout.challenger or rollout.outcome not in ("rolled_back", "aborted"):
        return "nothing"
    # Its own promotion, which nobody has repeated or replaced; or one that its bar forbids.
    own = bool(changes) and changes[-1].reason == reason_of(rollout)
    bar = rollouts.barred.get(rollout.challenger)
    return "champion" if own or (bar is not None and bar.rollout_id == rollout.rollout_id) else "nothing"


def _follow(registry: RegistryReader, name: str) -> Flip | None:
    """Change the alias as the record says, if it still says so."""
    with alias_file.edit(registry.files, name) as aliases:
        rollouts, before = registry.rollouts(name), aliases.get(CHAMPION)
        if rollouts.current is None:
            return None
        wanted = _wanted(rollouts, before, registry.history(name))
        if wanted not in ("challenger", "champion"):
            return None
        version: str = getattr(rollouts.current, wanted)
        registry.verify(name, version)
        aliases[CHAMPION] = version
        aliases.reason = reason_of(rollouts.current)
        aliases.rollback = wanted == "champion"
    return Flip(name, version, before, aliases.reason)


def _ended(registry: RegistryReader, rollouts: Rollouts, name: str, now: datetime) -> Rollouts:
    """The rollouts, with an open one ended because its versions are not those that answer."""
    history, champion = registry.history(name), registry.aliases(name).get(CHAMPION)
    if rollouts.current is None or _wanted(rollouts, champion, history) != "end":
        return rollouts
    last = next((change for change in reversed(history) if change.alias == CHAMPION), None)
    why = f"{champion or 'no version'} became the champion" + (f": {last.reason}" if last and last.reason else "")
    return machine.abort(rollouts, model=name, now=now, by=last.by if last else "unknown", reason=why)
