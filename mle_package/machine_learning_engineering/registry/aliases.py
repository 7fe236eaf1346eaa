"""Aliases of a model's versions and the history of their changes, in one file per model.

The file is replaced as a whole under a lock, so several processes may edit the aliases of one model.
"""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.registry.manifest import AliasChange, CorruptModel
from machine_learning_engineering.registry.uri import CHALLENGER, CHAMPION

ALIASES_FILE = "aliases.json"
MAX_HISTORY = 1_000
"""Maximum number of alias changes kept per model."""


class Aliases(dict[str, str]):
    """Version by alias, edited in place. `reason` and `rollback` are recorded in the history."""

    reason: str = ""
    rollback: bool = False


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    aliases: dict[str, str]
    history: list[AliasChange] = []


def read(folder: Path) -> tuple[dict[str, str], list[AliasChange]]:
    """Read the aliases of the model in `folder` and their changes, oldest first.

    Raises:
        CorruptModel: The file is unreadable.
    """
    path = folder / ALIASES_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}, []
    try:
        stored = msgspec.json.decode(content, type=_Stored)
    except (ValueError, RecursionError) as error:
        try:
            # Files written before the history existed hold the aliases only.
            return msgspec.json.decode(content, type=dict[str, str]), []
        except (ValueError, RecursionError):
            raise CorruptModel(
                f"the aliases of model `{folder.name}` can't be read ({error!s:.500}): restore {path}, or "
                f"promote a version, such as {folder.name}:v1, with inflight models promote"
            ) from error
    return stored.aliases, stored.history


@contextmanager
def edit(folder: Path, reason: str = "", *, reset_if_corrupt: bool = False) -> Iterator[Aliases]:
    """Lock the aliases, yield them for editing, and write them unless the block raises.

    Args:
        folder: The model's folder.
        reason: Recorded in the history.
        reset_if_corrupt: Start without aliases if the file is unreadable. This loses the history.

    Raises:
        CorruptModel: The file is unreadable. A damaged file must not pass for a model without a champion.
    """
    with durable.lock(folder):
        try:
            before, history = read(folder)
        except CorruptModel:
            if not reset_if_corrupt:
                raise
            before, history = {}, []
        after = Aliases(before)
        after.reason = reason
        yield after
        if after.get(CHALLENGER) == after.get(CHAMPION) != before.get(CHAMPION):
            # The challenger won.
            after.pop(CHALLENGER, None)
        if after != before:
            history = [*history, *_changes(before, after)][-MAX_HISTORY:]
            content = msgspec.json.encode(_Stored(dict(after), history))
            durable.replace(folder / ALIASES_FILE, msgspec.json.format(content, indent=2))


def previous_champion(history: list[AliasChange]) -> str | None:
    """The champion that a rollback restores.

    Rollbacks pop a stack: a second one restores the champion before, not the one just rolled back.
    """
    stack: list[str | None] = []
    for change in history:
        if change.alias != CHAMPION:
            continue
        if not stack:
            stack.append(change.previous)
        if change.rollback:
            stack[-2:] = [change.version]
        else:
            stack.append(change.version)
    return stack[-2] if len(stack) > 1 else None


def _changes(before: dict[str, str], after: Aliases) -> list[AliasChange]:
    now, user = datetime.now(UTC), _user()
    return [
        AliasChange(
            alias=alias,
            version=after.get(alias),
            previous=before.get(alias),
            at=now,
            by=user,
            reason=after.reason,
            rollback=after.rollback and alias == CHAMPION,
        )
        for alias in sorted(before.keys() | after.keys())
        if before.get(alias) != after.get(alias)
    ]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # The user of a container may have no name.
        return "unknown"
