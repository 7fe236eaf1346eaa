"""The open rollouts of a registry, as a worker follows them: which versions are open, and who answers."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from machine_learning_engineering.core.error_text import describe_origin
from machine_learning_engineering.observability.redaction import Redactor
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.rollout.record import Rollout
from machine_learning_engineering.storage.store import StoreUnavailable
from stream_app.serving.arms import Arms, ShadowPlan, roles

logger = logging.getLogger(__name__)

Open = Callable[[str, str], Any]
"""Opens a version of a model, or returns the one that is open."""


class FollowedRollouts:
    """The open rollouts, and the arms that they give. Whatever is wrong with one leaves the champion alone in service.

    Args:
        registry: the registry.
        open_: opens a version, for the arms of a canary and for the way back.
        try_: checks a version that a shadow is to open, in a child.
        redactor: redacts features as a version's class says; None if nothing is redacted.
    """

    def __init__(
        self,
        registry: Registry,
        open_: Open,
        try_: Callable[[str, str], None],
        redactor: Callable[[str, type], Redactor | None],
    ) -> None:
        self._registry = registry
        self._open, self._try, self._redactor = open_, try_, redactor
        self._unreadable: dict[str, str] = {}
        self.open: dict[str, Rollout] = {}
        """By model, as they were read last."""
        self.arms: dict[str, Arms] = {}
        """Of the models whose rollout is followed."""
        self.problems: dict[str, str] = {}
        """By model: why its rollout can't be followed."""

    def read(self, names: Iterable[str]) -> None:
        """Read the rollouts, before the aliases: in a rollback, what follows is then read, too."""
        found: dict[str, Rollout] = {}
        problems: dict[str, str] = {}
        for name in names:
            try:
                rollout = self._registry.rollout(name)
            except (RegistryError, StoreUnavailable, OSError) as error:
                problems[name] = str(error)
                continue
            if rollout is not None and rollout.model != name:
                problems[name] = f"the rollouts of `{name}` have one of `{rollout.model}`"
            elif rollout is not None:
                found[name] = rollout
        self.open, self._unreadable = found, problems

    def follow(self, models: Mapping[str, Any]) -> bool:
        """Open what the rollouts that were read ask for; returns whether anything has changed.

        Args:
            models: those in service, by name.
        """
        arms: dict[str, Arms] = {}
        problems = dict(self._unreadable)
        for name, rollout in self.open.items():
            if name not in models:
                continue
            try:
                made = self._arms(rollout, models[name])
            # A class may raise anything when it is created.
            except Exception as error:
                is_ours = isinstance(error, RegistryError | StoreUnavailable | ValueError)
                problems[name] = str(error) if is_ours else describe_origin(error)
            else:
                if made is not None:
                    arms[name] = made
        for name, problem in problems.items():
            if self.problems.get(name) != problem:
                logger.error("the rollout of %s can't be followed, its champion answers alone: %s", name, problem)
        changed = arms != self.arms
        self.arms, self.problems = arms, problems
        return changed

    @property
    def plans(self) -> list[ShadowPlan]:
        """What is scored in the shadow."""
        return [one.shadow for one in self.arms.values() if one.shadow is not None]

    @property
    def versions(self) -> set[tuple[str, str]]:
        """Models and versions that stay open once they are, so that the way forward and back is short."""
        return {(name, version) for name, one in self.open.items() for version in (one.champion, one.challenger)}

    def _arms(self, rollout: Rollout, model: Any) -> Arms | None:
        found = roles(rollout, model.version)
        before = self.arms.get(rollout.model)
        if found is None:
            # The record of a promotion is written before the alias: until that moves, no key goes back.
            is_promotion = rollout.stage == "bake" and before is not None and before.is_canary_of(rollout, model)
            return before if is_promotion else None
        if before is not None and before.is_of(rollout, model):
            return before
        opened = {model.version: model}
        if found.beside:
            opened[found.beside] = self._open(rollout.model, found.beside)
        if found.shadow and rollout.policy.shadow_share:
            self._try(rollout.model, found.shadow)
        redactors = {version: self._redactor(rollout.model, type(one)) for version, one in opened.items()}
        known = {version: redact for version, redact in redactors.items() if redact is not None}
        return Arms(rollout, found, opened, known)
