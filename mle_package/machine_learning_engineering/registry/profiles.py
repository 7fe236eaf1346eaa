"""Cache of reference profiles by model and version, read from the registry."""

import hashlib
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from machine_learning_engineering.drift.profile import Profile, without_rows
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.storage.location import Place

RETRY_SECONDS = 30.0
"""Seconds before a missing profile is looked up again: a version may reach the stream before this registry."""
_MAX_MISSING = 1_000


class Reference(NamedTuple):
    """A profile without its held-out predictions. `digest` tells apart profiles of equally named versions."""

    profile: Profile
    digest: str


class ProfileCache:
    """Profiles of a registry, read on first use.

    Args:
        registry: Its folder or location.
        clock: Monotonic time in seconds.
    """

    def __init__(self, registry: Place, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = Registry(registry)
        self._clock = clock
        self._known: dict[tuple[str, str], Reference] = {}
        self._missing: dict[tuple[str, str], float] = {}

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Models and versions that were requested recently and have no profile."""
        now = self._clock()
        return [key for key, until in self._missing.items() if until + RETRY_SECONDS > now]

    def get(self, model: str, version: str) -> Reference | None:
        """The reference of a version, or None if there is no readable profile."""
        key = (model, version)
        found = self._known.get(key)
        if found is not None or self._clock() < self._missing.get(key, float("-inf")):
            return found
        found = self._read(model, version)
        if found is None:
            # Names come from the stream and are unbounded.
            if len(self._missing) >= _MAX_MISSING:
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
        profile = without_rows(profile)
        return Reference(profile, hashlib.sha256(msgspec.json.encode(profile)).hexdigest()[:16])
