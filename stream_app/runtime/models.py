"""The models that a worker serves: the champions of a registry, opened."""

import logging
from collections.abc import Callable, Mapping

from machine_learning_engineering.core.error_text import describe_origin
from machine_learning_engineering.declaration.reading import InvalidDeclaration, parse_declaration
from machine_learning_engineering.declaration.schema import Declaration
from machine_learning_engineering.registry.aliases import previous_champion
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import Trials, VersionInQuarantine
from machine_learning_engineering.sdk import MLEModel
from stream_app.serving.bindings import Binding, bindings_of
from stream_app.serving.scorer import Model

logger = logging.getLogger(__name__)


class LoadedModels:
    """The opened champions of a registry, by model name. A version that can't be opened leaves the previous one.

    With `trials`, a version is tried in a child process before it is opened here. With `bind`, the source of a version
    that has a declaration is bound to it.
    """

    def __init__(
        self,
        registry: Registry,
        classes: Mapping[str, type[MLEModel]],
        trials: Trials | None = None,
        bind: Callable[[Declaration], Binding] | None = None,
    ) -> None:
        self._registry = registry
        self._trials = trials
        self._classes = classes
        self._bind = bind
        self._bound: dict[str, Binding] = {}
        self.bindings: dict[str, Binding] = {}
        """Existing topics that the models read, by name."""
        self._refused: set[tuple[str, str]] = set()
        self.refused: frozenset[str] = frozenset()
        """Models whose promoted version can't be opened."""
        self.models: dict[str, Model] = {}

    def open_all(self) -> dict[str, Model]:
        """Open every champion, as a worker does at its start; in place of one in quarantine, the champion before it.

        Raises:
            RegistryError: a champion can't be opened.
            InvalidDeclaration: the source of one can't be bound.
            SystemExit: there is no champion; the message names the command that trains one.
        """
        for name, version in self._registry.champions().items():
            if name not in self._classes:
                continue
            try:
                self.models[name] = self._open(name, version)
            except VersionInQuarantine as error:
                logger.error("%s", error)
                self._refused.add((name, version))
                if (previous := previous_champion(self._registry.history(name))) is not None:
                    self.models[name] = self._open(name, previous)
            self._rebind(name)
        if not self.models:
            raise SystemExit(f"there is no trained model in {self._registry.path}: run `inflight train` first")
        return self.models

    def refresh(self) -> tuple[list[str], list[str]]:
        """Open the versions promoted since the last call.

        `models` is replaced as a whole, so that a scoring batch meets either the old models or the new ones.

        Returns:
            The names of the models that changed, and of those whose new version can't be opened.

        Raises:
            RegistryError: the aliases can't be read.
            OSError: the same.
        """
        changed, refused, closed = [], [], set()
        for name, version in self._registry.champions().items():
            current = self.models.get(name)
            if name not in self._classes or (current is not None and current.version == version):
                continue
            try:
                opened = self._open(name, version)
                self._rebind(name, version)
            # A class may raise anything when it is created, in all workers at once.
            except Exception as error:
                # Logged once for each version but tried again: its files may still be on their way.
                if (name, version) not in self._refused:
                    refused.append(name)
                    effect = f"{current.version} stays in service" if current else "it is not served"
                    cause = error if isinstance(error, RegistryError | InvalidDeclaration) else describe_origin(error)
                    logger.error("%s %s was promoted but can't be opened; %s: %s", name, version, effect, cause)
                self._refused.add((name, version))
                closed.add(name)
                continue
            self.models = {**self.models, name: opened}
            changed.append(name)
        self.refused = frozenset(closed)
        return changed, refused

    def _rebind(self, name: str, version: str = "") -> None:
        """Bind the source of a model's version, by default of the one that is served; unbind the one before it."""
        version = version or (self.models[name].version if name in self.models else "")
        content = self._registry.declaration(name, version) if self._bind is not None and version else None
        bound = {model: one for model, one in self._bound.items() if model != name}
        if self._bind is not None and content is not None:
            declaration = parse_declaration(content, f"the declaration of {name} {version}")
            if declaration.model.name != name:
                raise InvalidDeclaration(f"model.name: {declaration.model.name}, but the version is one of {name}")
            if declaration.source is not None:
                bound[name] = self._bind(declaration)
        self.bindings = bindings_of(bound.values())
        self._bound = bound

    def _open(self, name: str, version: str) -> Model:
        if self._trials is not None:
            self._trials.require(name, version, self._classes[name])
        opened: Model = self._registry.open(name, version, model_class=self._classes[name])
        return opened
