"""The adopted models of a registry, as classes."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from machine_learning_engineering.adoption.model import AdoptedModel, Origin, class_from_toml
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.declaration.reading import DECLARATION_FILE
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.uri import CHAMPION

__all__ = ["Adopted", "adopted_class_of", "adopted_classes", "find_adopted"]


class Adopted(NamedTuple):
    """Classes of adopted models by name, and why others can't be used."""

    models: dict[str, type[AdoptedModel]]
    broken: dict[str, str]


def adopted_classes(registry: Registry) -> dict[str, type[AdoptedModel]]:
    """Classes of the adopted models by name. Those that can't be used are left out."""
    return find_adopted(registry).models


def find_adopted(registry: Registry) -> Adopted:
    """Find the adopted models of a registry. A model is adopted if its champion, or else its newest version, is."""
    found = Adopted({}, {})
    try:
        names = registry.models()
    except OSError as error:
        return Adopted({}, {"registry": f"the adopted models in {registry.place} can't be read: {error}"})
    for name in names:
        try:
            version = registry.alias(name, CHAMPION) or registry.versions(name)[-1]
            made = adopted_class_of(registry, name, version)
        except (RegistryError, OSError, ValueError) as error:
            found.broken[name] = f"the adopted model `{name}` can't be used: {error}"
            continue
        if made is not None:
            found.models[name] = made
    return found


def adopted_class_of(registry: Registry, name: str, version: str) -> type[AdoptedModel] | None:
    """The class of a version; None if the version has no declaration.

    Raises:
        RegistryError: The version can't be read.
        InvalidDeclaration: Its declaration can't be used.
    """
    content = registry.declaration(name, version)
    if content is None:
        return None
    origin = Origin(partial(_estimator, registry, name, version), partial(_examples, registry, name, version))
    return class_from_toml(content, f"{DECLARATION_FILE} of {name} {version}", origin=origin)


def _estimator(registry: Registry, name: str, version: str) -> Any:
    return registry.open(name, version, model_class=AdoptedModel).estimator


def _examples(registry: Registry, name: str, version: str) -> Sequence[Example]:
    profile = registry.profile(name, version)
    rows = () if profile is None else profile.held_out_rows
    return [Example(row.features, row.label, str(row.group)) for row in rows]
