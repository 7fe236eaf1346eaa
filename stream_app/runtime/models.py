"""Which models a worker serves, and how a new champion takes the place of the old one while requests flow."""

import logging
from collections.abc import Mapping

from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from stream_app.serving.scorer import Model

logger = logging.getLogger(__name__)


class LoadedModels:
    """The champions of a registry, opened. A version that can't be opened is refused, and the one before goes on."""

    def __init__(self, registry: Registry, classes: Mapping[str, type[MLEModel]]) -> None:
        self._registry = registry
        self._classes = classes
        self._refused: set[tuple[str, str]] = set()
        self.models: dict[str, Model] = {}

    def open_all(self) -> dict[str, Model]:
        """Open every champion; for the start of a worker.

        Raises:
            RegistryError: one can't be opened.
            SystemExit: there is none, with the command that makes one.
        """
        self.models = {
            name: self._registry.open(name, model_class=self._classes[name])
            for name in self._registry.champions()
            if name in self._classes
        }
        if not self.models:
            raise SystemExit(f"there is no trained model in {self._registry.path}: run `inflight train` first")
        return self.models

    def refresh(self) -> tuple[list[str], list[str]]:
        """Open what was promoted since the last look. Returns the names that changed, and those that were refused.

        `models` is replaced as a whole, so that a round of scoring sees either the old ones or the new ones.
        """
        changed, refused = [], []
        for name, version in self._registry.champions().items():
            served = self.models.get(name)
            if name not in self._classes or (served is not None and served.version == version):
                continue
            try:
                opened: Model = self._registry.open(name, version, model_class=self._classes[name])
            except RegistryError as error:
                # Said once for each version, but tried again: its files may still be on their way here.
                if (name, version) not in self._refused:
                    refused.append(name)
                    going_on = f"{served.version} goes on" if served else "it is not served"
                    logger.error("%s %s was promoted but can't be opened; %s: %s", name, version, going_on, error)
                self._refused.add((name, version))
                continue
            self.models = {**self.models, name: opened}
            changed.append(name)
        return changed, refused
