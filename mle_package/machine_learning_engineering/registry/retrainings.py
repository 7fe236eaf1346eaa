"""Retrainings of a model in its registry; see `registry.model_record`.

The file is also the lock: of several machines that find the same slot due, the one whose write succeeds trains.
"""

from collections.abc import Callable

from machine_learning_engineering.registry.files import RegistryFiles
from machine_learning_engineering.registry.model_record import ModelRecord
from machine_learning_engineering.registry.rolling import until_written
from machine_learning_engineering.rollout.retraining import Retrainings

RETRAININGS = ModelRecord(
    Retrainings,
    "retrainings",
    changed="the retrainings of model `{name}` are changed by others all the time; nothing was written",
    unreadable="remove {file}, which forgets what was retrained",
)
read, sign = RETRAININGS.read, RETRAININGS.sign


def change(files: RegistryFiles, name: str, edit: Callable[[Retrainings], Retrainings]) -> Retrainings:
    """Replace the retrainings of a model by what `edit` makes of them, and again if another machine was faster.

    Args:
        edit: Called with them as they are now, perhaps more than once. If it raises, nothing changes.

    Raises:
        AliasesChanged: Others are faster each time.
        CorruptModel: The file is unreadable.
        StoreUnavailable: The store is unavailable.
    """
    return until_written(lambda: RETRAININGS.change(files, name, edit))
