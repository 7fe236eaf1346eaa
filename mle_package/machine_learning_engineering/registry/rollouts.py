"""Rollouts of a model in its registry: one file, edited by a conditional write, signed as the aliases are."""

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
        CorruptModel: The file is unreadable, or its signature is refused.
        StoreUnavailable: The store is unavailable, and the file was never read before.
    """
    try:
        content = files.document(_key(name), _subject(name))
    except FileNotFoundError:
        return Rollouts()
    return _decode(files, name, content)


def change(files: RegistryFiles, name: str, edit: Callable[[Rollouts], Rollouts]) -> Rollouts:
    """Replace the rollouts of a model by what `edit` makes of them; if it raises, nothing changes.

    Raises:
        AliasesChanged: Somebody else has changed them in the meantime: read them and decide again.
        CorruptModel: The file is unreadable.
    """
    with files.store.edit(_key(name)) as file:
        before = Rollouts()
        if file.content is not None:
            files.verify(file.content, _key(name), _subject(name))
            before = _decode(files, name, file.content)
        after = edit(before)
        if after == before:
            return before
        after = msgspec.structs.replace(after, revision=before.revision + 1, signature="")
        document = msgspec.json.format(msgspec.json.encode(after), indent=2)
        try:
            file.replace(files.sign(document, _subject(name)))
        except Conflict as error:
            raise AliasesChanged(
                f"the rollout of model `{name}` was changed by somebody else in the meantime; nothing was written: "
                "see inflight rollout show, then repeat it"
            ) from error
    return after


def _key(name: str) -> str:
    return f"{name}/{ROLLOUTS_FILE}"


def _subject(name: str) -> str:
    return f"rollouts of {name}"


def _decode(files: RegistryFiles, name: str, content: bytes) -> Rollouts:
    try:
        return msgspec.json.decode(content, type=Rollouts)
    except (ValueError, RecursionError) as error:
        raise CorruptModel(
            f"the rollouts of model `{name}` can't be read ({error!s:.500}): restore {files.url}/{_key(name)}"
        ) from error
