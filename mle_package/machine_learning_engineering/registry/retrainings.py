"""Retrainings of a model in its registry: one file, edited by a conditional write, signed as the aliases are.

It is also the lock: of several machines that find the same slot due, the one whose write succeeds trains.
"""

import random
import time
from collections.abc import Callable

import msgspec

from machine_learning_engineering.registry.files import RegistryFiles
from machine_learning_engineering.registry.manifest import AliasesChanged, CorruptModel
from machine_learning_engineering.rollout.retraining import Retrainings
from machine_learning_engineering.storage.store import Conflict

RETRAININGS_FILE = "retrainings.json"
_ATTEMPTS = 20


def read(files: RegistryFiles, name: str) -> Retrainings:
    """Read the retrainings of a model; without a file, there are none.

    Raises:
        CorruptModel: The file is unreadable, or its signature is refused.
        StoreUnavailable: The store is unavailable, and the file was never read before.
    """
    try:
        content = files.document(_key(name), _subject(name))
    except FileNotFoundError:
        return Retrainings()
    return _decode(files, name, content)


def change(files: RegistryFiles, name: str, edit: Callable[[Retrainings], Retrainings]) -> Retrainings:
    """Replace the retrainings of a model by what `edit` makes of them, and again if another machine was faster.

    Args:
        edit: Called with them as they are now, perhaps more than once. If it raises, nothing changes.

    Raises:
        AliasesChanged: Others are faster each time.
        CorruptModel: The file is unreadable.
        StoreUnavailable: The store is unavailable.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return _change(files, name, edit)
        except Conflict:
            time.sleep(random.uniform(0, 0.05 * (attempt + 1)))
    raise AliasesChanged(f"the retrainings of model `{name}` are changed by others all the time; nothing was written")


def _change(files: RegistryFiles, name: str, edit: Callable[[Retrainings], Retrainings]) -> Retrainings:
    with files.store.edit(_key(name)) as file:
        before = Retrainings()
        if file.content is not None:
            files.verify(file.content, _key(name), _subject(name))
            before = _decode(files, name, file.content)
        after = edit(before)
        if after == before:
            return before
        after = msgspec.structs.replace(after, revision=before.revision + 1, signature="")
        document = msgspec.json.format(msgspec.json.encode(after), indent=2)
        file.replace(files.sign(document, _subject(name)))
    return after


def _key(name: str) -> str:
    return f"{name}/{RETRAININGS_FILE}"


def _subject(name: str) -> str:
    return f"retrainings of {name}"


def _decode(files: RegistryFiles, name: str, content: bytes) -> Retrainings:
    try:
        return msgspec.json.decode(content, type=Retrainings)
    except (ValueError, RecursionError) as error:
        raise CorruptModel(
            f"the retrainings of model `{name}` can't be read ({error!s:.500}): remove {files.url}/{_key(name)}, "
            "which forgets what was retrained"
        ) from error
