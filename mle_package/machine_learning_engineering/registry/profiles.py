"""Reference profiles by model and version, for who knows nothing else of models: read from the registry once each."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from machine_learning_engineering.drift.profile import Profile
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry

RETRY_SECONDS = 30.0
"""So long a version without a profile is not looked for again. A registry may get a version later than the stream."""
_MOST = 1_000


class Reference(NamedTuple):
    """A profile, without its held-out answers. `digest` tells it from another profile of the same version's name."""

    profile: Profile
    digest: str


class References:
    """What the registry in a folder has, as far as it was asked for."""

    def __init__(self, registry: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = Registry(registry)
        self._clock = clock
        self._known: dict[tuple[str, str], Reference] = {}
        self._missing: dict[tuple[str, str], float] = {}

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Models and versions that were asked for lately and have no profile."""
        now = self._clock()
        return [key for key, until in self._missing.items() if until + RETRY_SECONDS > now]

    def get(self, model: str, version: str) -> Reference | None:
        """The reference of a version; None if there is none that can be read."""
        key = (model, version)
        found = self._known.get(key)
        if found is not None or self._clock() < self._missing.get(key, float("-inf")):
            return found
        found = self._read(model, version)
        if found is None:
            # Names come from the stream, and anybody may send any number of them.
            if len(self._missing) >= _MOST:
                self._missing.clear()
            self._missing[key] = self._clock() + RETRY_SECONDS
        else:
            self._missing.pop(key, None)
            self._known[key] = found
        return found

    def _read(self, model: str, version: str) -> Reference | None:
        try:
            profile = self._registry.profile(model, version)
        except (RegistryError, OSError):
            return None
        if profile is None:
            return None
        profile = msgspec.structs.replace(profile, held_out=[])
        return Reference(profile, hashlib.sha256(msgspec.json.encode(profile)).hexdigest()[:16])
