"""Which version of a model is which, and who changed that: one file a model, replaced as a whole under a lock."""

import fcntl
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
HISTORY = 1_000
"""So many of a model's last changes are kept."""


class Aliases(dict[str, str]):
    """The version of each alias, to be changed in place; `reason` and `rollback` go to the history."""

    reason: str = ""
    rollback: bool = False


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    aliases: dict[str, str]
    history: list[AliasChange] = []


def read(folder: Path) -> tuple[dict[str, str], list[AliasChange]]:
    """The aliases of the model in a folder, and their changes, oldest first.

    Raises:
        CorruptModel: the file can't be read.
    """
    path = folder / ALIASES_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}, []
    try:
        stored = msgspec.json.decode(content, type=_Stored)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        try:
            # Before there was a history, the file held the aliases alone.
            return msgspec.json.decode(content, type=dict[str, str]), []
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise CorruptModel(
                f"the aliases of model `{folder.name}` can't be read ({error}): restore {path}, or promote a version, "
                f"such as {folder.name}:v1, with inflight models promote"
            ) from error
    return stored.aliases, stored.history


@contextmanager
def changing(folder: Path, reason: str = "", *, anew: bool = False) -> Iterator[Aliases]:
    """The aliases to be changed while nobody else changes them; written at the end, unless the block raises.

    Args:
        anew: begin with none if they can't be read, which loses the history.

    Raises:
        CorruptModel: they can't be read. Damage must not be taken for a model without a champion.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            before, history = read(folder)
        except CorruptModel:
            if not anew:
                raise
            before, history = {}, []
        after = Aliases(before)
        after.reason = reason
        yield after
        if after.get(CHALLENGER) == after.get(CHAMPION) != before.get(CHAMPION):
            # It has won.
            after.pop(CHALLENGER, None)
        if after != before:
            history = [*history, *_changes(before, after)][-HISTORY:]
            content = msgspec.json.encode(_Stored(dict(after), history))
            durable.replace(folder / ALIASES_FILE, msgspec.json.format(content, indent=2))


def champion_before(history: list[AliasChange]) -> str | None:
    """The champion that a rollback goes back to: going back twice leads to the one before that, not forth again."""
    line: list[str | None] = []
    for change in history:
        if change.alias != CHAMPION:
            continue
        if not line:
            line.append(change.previous)
        if change.rollback:
            line[-2:] = [change.version]
        else:
            line.append(change.version)
    return line[-2] if len(line) > 1 else None


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
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return "unknown"
