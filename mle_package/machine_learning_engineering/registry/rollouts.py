"""Rollouts of a model in its registry: one file, edited by a conditional write, signed as the aliases are.

As with the aliases, a machine that has read a signed file refuses those before it.
"""

from collections.abc import Callable

import msgspec

from machine_learning_engineering.registry.files import RegistryFiles
from machine_learning_engineering.registry.manifest import AliasesChanged, CorruptModel
from machine_learning_engineering.rollout.record import Rollouts
from machine_learning_engineering.storage.store import Conflict

ROLLOUTS_FILE = "rollouts.json"


def read(files: RegistryFiles, name: str) -> Rollouts:
    """Read the rollouts of a model; without a file, there are none.

    Raises:
        CorruptModel: The file is unreadable, its signature is refused, or it is older than one that was read before.
        StoreUnavailable: The store is unavailable, and the file was never read before.
    """
    stored = _read(files, name)
    if stored.revision < files.highest_revision(_noted(name)):
        # Once more: another process of this machine may have read a newer file since.
        stored = _read(files, name)
    _refuse_older(files, name, stored)
    return stored


def change(files: RegistryFiles, name: str, edit: Callable[[Rollouts], Rollouts]) -> Rollouts:
    """Replace the rollouts of a model by what `edit` makes of them; if it raises, nothing changes.

    Raises:
        AliasesChanged: Somebody else has changed them in the meantime: read them and decide again.
        CorruptModel: The file is unreadable.
    """
    with files.store.edit(_key(name)) as file:
        before = _verified(files, name, file.content)
        _refuse_older(files, name, before)
        after = edit(before)
        if after == before:
            return before
        after = msgspec.structs.replace(after, revision=before.revision + 1, signature="")
        try:
            file.replace(_document(files, name, after))
        except Conflict as error:
            raise AliasesChanged(
                f"the rollout of model `{name}` was changed by somebody else in the meantime; nothing was written: "
                "see inflight rollout show, then repeat it"
            ) from error
    return after


def sign(files: RegistryFiles, unsigned: RegistryFiles, name: str) -> bool:
    """Write the rollouts of a model anew, signed with the first key, whatever their signature is now.

    Args:
        files: Of the registry, with keys.
        unsigned: Of the same, without.
        name: Of the model.

    Returns:
        Whether there are any, or were: a file that is gone is replaced by an empty one.

    Raises:
        CorruptModel: They are unreadable.
        Conflict: Somebody else writes them.
    """
    with files.store.edit(_key(name)) as file:
        newest = files.highest_revision(_noted(name))
        if file.content is None and not newest:
            return False
        stored = _verified(unsigned, name, file.content)
        revision = max(stored.revision, newest) + 1
        file.replace(_document(files, name, msgspec.structs.replace(stored, revision=revision, signature="")))
    return True


def _document(files: RegistryFiles, name: str, rollouts: Rollouts) -> bytes:
    return files.sign(msgspec.json.format(msgspec.json.encode(rollouts), indent=2), _subject(name))


def _read(files: RegistryFiles, name: str) -> Rollouts:
    try:
        return _decode(files, name, files.document(_key(name), _subject(name)))
    except FileNotFoundError:
        return Rollouts()


def _verified(files: RegistryFiles, name: str, content: bytes | None) -> Rollouts:
    if content is None:
        return Rollouts()
    files.verify(content, _key(name), _subject(name))
    return _decode(files, name, content)


def _refuse_older(files: RegistryFiles, name: str, stored: Rollouts) -> None:
    if files.signer is None:
        return
    if stored.revision < (newest := files.highest_revision(_noted(name))):
        raise CorruptModel(
            f"the rollouts of model `{name}` in {files.url} are an old file: revision {stored.revision}, this machine "
            f"has read {newest} before; they were not used: restore the newest one, or vouch for this one with "
            "inflight models sign"
        )
    files.note_revision(_noted(name), stored.revision)


def _noted(name: str) -> str:
    """Where the highest revision is noted. No model has a dot in its name."""
    return f"{name}.rollouts"


def _key(name: str) -> str:
    return f"{name}/{ROLLOUTS_FILE}"


def _subject(name: str) -> str:
    return f"rollouts of {name}"


def _decode(files: RegistryFiles, name: str, content: bytes) -> Rollouts:
    try:
        return msgspec.json.decode(content, type=Rollouts)
    except (ValueError, RecursionError) as error:
        raise CorruptModel(
            f"the rollouts of model `{name}` can't be read ({error!s:.500}): restore {files.url}/{_key(name)}, or "
            "remove it, which ends an open rollout and unbars all versions"
        ) from error
