"""The existing topics that champions read, by the declarations in the registry."""

import logging
from functools import lru_cache

from machine_learning_engineering.declaration.reading import InvalidDeclaration, parse_declaration
from machine_learning_engineering.declaration.schema import Declaration
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.reader import RegistryReader
from machine_learning_engineering.settings import KernelSettings

logger = logging.getLogger(__name__)


class RegistrySources:
    """Reads the declarations of the champions, each version's once. A model without a readable one has no source.

    Args:
        settings: Where the registry is.
    """

    def __init__(self, settings: KernelSettings) -> None:
        self._registry = RegistryReader(settings.registry_dir)
        self._read = lru_cache(maxsize=256)(self._declaration)

    def declarations(self) -> list[Declaration]:
        """Return the declarations that name a source."""
        try:
            champions = self._registry.champions()
        except (RegistryError, OSError) as error:
            logger.warning("existing topics are not known: the registry can't be read (%s)", type(error).__name__)
            return []
        found = [self._read(name, version) for name, version in champions.items()]
        return [one for one in found if one is not None and one.source is not None]

    def topics(self) -> list[str]:
        """Return the full names of the sources, sorted."""
        return sorted({one.source.topic for one in self.declarations() if one.source is not None})

    def _declaration(self, name: str, version: str) -> Declaration | None:
        try:
            content = self._registry.declaration(name, version)
            return None if content is None else parse_declaration(content, f"the declaration of {name} {version}")
        except (RegistryError, InvalidDeclaration, OSError) as error:
            logger.warning("the source of %s %s is not known: %s", name, version, error)
            return None
