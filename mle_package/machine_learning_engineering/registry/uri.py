"""Names of models and of their versions, as people and tools write them."""

import re
from typing import NamedTuple

from machine_learning_engineering.registry.manifest import RegistryError

CHAMPION = "champion"
CHALLENGER = "challenger"
LATEST = "latest"

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")
VERSION = re.compile(r"v([1-9][0-9]{0,8})")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_URI = re.compile(r"(?P<scheme>models:/)?(?P<name>[^/@:]+)(?:@(?P<alias>[^/@:]+)|(?(scheme)/|:)(?P<version>[^/@:]+))?")


class ModelUri(NamedTuple):
    """A model and one of its aliases or versions, such as ``("diamonds", "champion")`` or ``("diamonds", "v3")``."""

    name: str
    alias_or_version: str


def parse(text: str, default: str = CHAMPION) -> ModelUri:
    """What a text names: ``diamonds``, ``diamonds@challenger``, ``diamonds:v3``, ``models:/diamonds/3``.

    A version may be written with or without its "v"; `default` is meant where a text gives neither alias nor version.

    Raises:
        RegistryError: it names nothing.
    """
    found = _URI.fullmatch(text)
    if found is None or not NAME.fullmatch(found["name"]):
        raise RegistryError(
            f"{text[:128]!r} is not the name of a model: use a-z, 0-9, - and _, as in diamonds, diamonds@champion, "
            "diamonds:v3 or models:/diamonds/3"
        )
    return ModelUri(found["name"], normal(found["alias"] or found["version"] or default))


def normal(alias_or_version: str) -> str:
    """An alias or a version; of a bare number the version with its "v"."""
    return f"v{alias_or_version}" if alias_or_version.isdecimal() else alias_or_version


def check_alias(alias: str) -> None:
    """Refuse what would be taken for a version.

    Raises:
        RegistryError: it can't be an alias.
    """
    if not _ALIAS.fullmatch(alias) or VERSION.fullmatch(alias) or alias == LATEST:
        raise RegistryError(f"{alias[:64]!r} can't be an alias: use a-z, 0-9, - and _, and no version's name")
