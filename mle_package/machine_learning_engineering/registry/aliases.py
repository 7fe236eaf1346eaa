"""Aliases of a model's versions and the history of their changes, in one file per model.

The file is replaced as a whole, under a lock in a folder and by a conditional write behind a URL, so several processes
and machines may edit the aliases of one model.

A signed file has a number that grows with each change. A machine that has read one refuses those before it, so an old
file with its valid signature can't be put back unnoticed.
"""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec

from machine_learning_engineering.registry.files import RegistryFiles
from machine_learning_engineering.registry.manifest import AliasChange, AliasesChanged, CorruptModel
from machine_learning_engineering.registry.uri import CHALLENGER, CHAMPION
from machine_learning_engineering.storage.store import Conflict

ALIASES_FILE = "aliases.json"
MAX_HISTORY = 1_000
"""Maximum number of alias changes kept per model."""


class Aliases(dict[str, str]):
    """Version by alias, edited in place. `reason` and `rollback` are recorded in the history."""

    reason: str = ""
    rollback: bool = False


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    aliases: dict[str, str]
    history: list[AliasChange] = []
    revision: int = 0
    """Grows with each change of a signed file; 0 without a signature."""
    signature: str = ""


def read(files: RegistryFiles, name: str) -> tuple[dict[str, str], list[AliasChange]]:
    """Read the aliases of a model and their changes, oldest first.

    Raises:
        CorruptModel: The file is unreadable, its signature is refused, or it is older than one that was read before.
        StoreUnavailable: The store is unavailable, and the file was never read before.
    """
    stored = _read(files, name)
    if stored.revision < files.highest_revision(name):
        # Once more: another process of this machine may have read a newer file since.
        stored = _read(files, name)
    _refuse_older(files, name, stored)
    return stored.aliases, stored.history


@contextmanager
def edit(files: RegistryFiles, name: str, reason: str = "", *, reset_if_corrupt: bool = False) -> Iterator[Aliases]:
    """Yield the aliases for editing, and write them unless the block raises.

    Args:
        files: Of the registry.
        name: Of the model.
        reason: Recorded in the history.
        reset_if_corrupt: Start without aliases if the file is unreadable. This loses the history.

    Raises:
        CorruptModel: The file is unreadable. A damaged file must not pass for a model without a champion.
        AliasesChanged: Another machine has changed them in the meantime. Nothing was written.
        StoreUnavailable: The store is unavailable.
    """
    key = _key(name)
    with files.store.edit(key) as file:
        try:
            stored = _decode(files, name, file.content)
            _refuse_older(files, name, stored)
        except CorruptModel:
            if not reset_if_corrupt:
                raise
            stored = _Stored({})
        before = stored.aliases
        after = Aliases(before)
        after.reason = reason
        yield after
        if after.get(CHALLENGER) == after.get(CHAMPION) != before.get(CHAMPION):
            # The challenger won.
            after.pop(CHALLENGER, None)
        if after != before:
            history = [*stored.history, *_changes(before, after)][-MAX_HISTORY:]
            newest = max(stored.revision, files.highest_revision(name))
            revision = 0 if files.signer is None else newest + 1
            try:
                file.replace(_document(files, name, _Stored(dict(after), history, revision)))
            except Conflict as error:
                raise AliasesChanged(
                    f"the aliases of model `{name}` were changed by somebody else in the meantime; nothing was "
                    "written: see inflight models show, then repeat it"
                ) from error


def sign(files: RegistryFiles, unsigned: RegistryFiles, name: str) -> bool:
    """Write the alias file of a model anew, signed with the first key, whatever its signature is now.

    Args:
        files: Of the registry, with keys.
        unsigned: Of the same, without.
        name: Of the model.

    Returns:
        Whether there is one.

    Raises:
        CorruptModel: It is unreadable.
        Conflict: Somebody else writes it.
    """
    with files.store.edit(_key(name)) as file:
        if file.content is None:
            return False
        stored = _decode(unsigned, name, file.content)
        revision = max(stored.revision, files.highest_revision(name)) + 1
        file.replace(_document(files, name, _Stored(stored.aliases, stored.history, revision)))
    return True


def _document(files: RegistryFiles, name: str, stored: _Stored) -> bytes:
    return files.sign(msgspec.json.format(msgspec.json.encode(stored), indent=2), _subject(name))


def _key(name: str) -> str:
    return f"{name}/{ALIASES_FILE}"


def _subject(name: str) -> str:
    return f"aliases of {name}"


def _read(files: RegistryFiles, name: str) -> _Stored:
    try:
        content = files.document(_key(name), _subject(name))
    except FileNotFoundError:
        return _Stored({})
    return _decode(files, name, content)


def _decode(files: RegistryFiles, name: str, content: bytes | None) -> _Stored:
    if content is None:
        return _Stored({})
    key = _key(name)
    files.verify(content, key, _subject(name))
    try:
        return msgspec.json.decode(content, type=_Stored)
    except (ValueError, RecursionError) as error:
        try:
            # Files written before the history existed hold the aliases only.
            return _Stored(msgspec.json.decode(content, type=dict[str, str]))
        except (ValueError, RecursionError):
            raise CorruptModel(
                f"the aliases of model `{name}` can't be read ({error!s:.500}): restore {files.url}/{key}, or "
                f"promote a version, such as {name}:v1, with inflight models promote"
            ) from error


def _refuse_older(files: RegistryFiles, name: str, stored: _Stored) -> None:
    if files.signer is None:
        return
    if stored.revision < (newest := files.highest_revision(name)):
        raise CorruptModel(
            f"the aliases of model `{name}` in {files.url} are an old file: revision {stored.revision}, this machine "
            f"has read {newest} before; they were not used: restore the newest one, or promote a version, such as "
            f"{name}:v1, with inflight models promote"
        )
    files.note_revision(name, stored.revision)


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
    now, user = datetime.now(UTC), current_user()
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


def current_user() -> str:
    """Who runs this process, for the history."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # The user of a container may have no name.
        return "unknown"
