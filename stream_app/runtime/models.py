"""The models that a worker serves: the champions of a registry, opened."""

import logging
from collections.abc import Callable, Mapping

from machine_learning_engineering.adoption.model import AdoptedModel
from machine_learning_engineering.core.error_text import describe_origin
from machine_learning_engineering.declaration.reading import InvalidDeclaration, parse_declaration
from machine_learning_engineering.declaration.schema import Declaration
from machine_learning_engineering.observability.redaction import Redactor
from machine_learning_engineering.registry.aliases import previous_champion
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import Trials, VersionInQuarantine
from machine_learning_engineering.sdk import MLEModel
from stream_app.runtime.rollouts import FollowedRollouts
from stream_app.serving.bindings import Binding, bindings_of
from stream_app.serving.scorer import Model

logger = logging.getLogger(__name__)


class LoadedModels:
    """The opened champions of a registry, by model name. A version that can't be opened leaves the previous one.

    A model without a class is served if its version is adopted: the version's declaration makes its class.
    With `trials`, a version is tried in a child process before it is opened here. `accept` is called with the name and
    the class of an opened version, and raises if it can't be served. With `bind`, the source of a version that has a
    declaration is bound to it. `redactor` makes what redacts features of a version in a rollout.
    """

    def __init__(
        self,
        registry: Registry,
        classes: Mapping[str, type[MLEModel]],
        trials: Trials | None = None,
        accept: Callable[[str, type[MLEModel]], None] = lambda name, model_class: None,
        bind: Callable[[Declaration], Binding] | None = None,
        redactor: Callable[[str, type], Redactor | None] = lambda name, model_class: None,
    ) -> None:
        self.registry = registry
        self._accept = accept
        self._trials = trials
        self._classes = classes
        self._bind = bind
        self._bound: dict[str, Binding] = {}
        self.bindings: dict[str, Binding] = {}
        """Existing topics that the models read, by name."""
        self._refused: set[tuple[str, str]] = set()
        self.has_new_arms = False
        """Whether the last refresh has changed who answers in a rollout."""
        self.refused: frozenset[str] = frozenset()
        """Models whose promoted version can't be opened."""
        self.models: dict[str, Model] = {}
        # Those in service, and those of rollouts: a promotion or a rollback opens nothing anew.
        self._opened: dict[tuple[str, str], Model] = {}
        self.rollouts = FollowedRollouts(registry, self._open, self._try, redactor)

    @property
    def registry_problem(self) -> str:
        """Why the registry is unavailable and its local cache is used; empty otherwise."""
        return self.registry.files.problem

    def open_all(self) -> dict[str, Model]:
        """Open every champion, as a worker does at its start; in place of one in quarantine, the champion before it.

        One that can't be opened is logged and left out.

        Raises:
            RegistryError: no champion can be opened.
            InvalidDeclaration: no champion's source can be bound.
            StoreUnavailable: the registry is unavailable, and a champion is not in its cache.
            SystemExit: there is no champion; the message names the command that trains one.
        """
        errors: list[RegistryError | InvalidDeclaration] = []
        self.rollouts.read(self.registry.models())
        for name, version in self.registry.champions().items():
            try:
                if self._class_of(name, version) is not None:
                    self._open_first(name, version)
                    self._rebind(name)
            except (RegistryError, InvalidDeclaration) as error:
                self.models.pop(name, None)
                logger.error("%s", error)
                self._refused.add((name, version))
                self.refused |= {name}
                errors.append(error)
        if not self.models and errors:
            raise errors[0]
        if not self.models:
            raise SystemExit(f"there is no trained model in {self.registry.place}: run `inflight train` first")
        self._follow_rollouts()
        return self.models

    def _open_first(self, name: str, version: str) -> None:
        try:
            self.models[name] = self._open(name, version)
        except VersionInQuarantine as error:
            logger.error("%s", error)
            self._refused.add((name, version))
            if (previous := previous_champion(self.registry.history(name))) is not None:
                self.models[name] = self._open(name, previous)

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
        self.rollouts.read(self.registry.models())
        for name, version in self.registry.champions().items():
            current = self.models.get(name)
            if current is not None and current.version == version:
                continue
            try:
                if self._class_of(name, version) is None:
                    continue
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
        self.has_new_arms = self._follow_rollouts()
        return changed, refused

    def class_of(self, name: str, version: str) -> type[MLEModel]:
        """The class that opens a version.

        Raises:
            RegistryError: there is no code for it.
        """
        found = self._class_of(name, version)
        if found is None:
            raise RegistryError(f"there is no code for model `{name}` {version} here: install its package")
        return found

    def _follow_rollouts(self) -> bool:
        changed = self.rollouts.follow(self.models)
        kept = {(name, model.version) for name, model in self.models.items()} | self.rollouts.versions
        self._opened = {key: model for key, model in self._opened.items() if key in kept}
        return changed

    def _try(self, name: str, version: str) -> None:
        if self._trials is not None:
            self._trials.require(name, version, self.class_of(name, version))

    def _class_of(self, name: str, version: str) -> type[MLEModel] | None:
        """The class that opens a version; None if there is no code for it."""
        written = self._classes.get(name)
        if written is not None or self.registry.declaration(name, version) is None:
            return written
        return AdoptedModel

    def _rebind(self, name: str, version: str = "") -> None:
        """Bind the source of a model's version, by default of the one that is served; unbind the one before it."""
        version = version or (self.models[name].version if name in self.models else "")
        content = self.registry.declaration(name, version) if self._bind is not None and version else None
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
        if (name, version) in self._opened:
            return self._opened[name, version]
        model_class = self.class_of(name, version)
        if self._trials is not None:
            self._trials.require(name, version, model_class)
        opened = self.registry.open(name, version, model_class=model_class)
        self._accept(name, type(opened))
        self._opened[name, version] = opened
        return opened
