"""Model URIs: names of models, versions and aliases as people and tools write them."""

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


def parse(uri: str, default: str = CHAMPION) -> ModelUri:
    """Parse a model URI: ``diamonds``, ``diamonds@challenger``, ``diamonds:v3``, ``models:/diamonds/3``.

    Args:
        uri: The URI. The "v" of a version is optional.
        default: The alias or version to use if `uri` has neither.

    Raises:
        RegistryError: `uri` is malformed.
    """
    found = _URI.fullmatch(uri)
    if found is None or not NAME.fullmatch(found["name"]):
        raise RegistryError(
            f"{uri[:128]!r} is not the name of a model: use a-z, 0-9, - and _, as in diamonds, diamonds@champion, "
            "diamonds:v3 or models:/diamonds/3"
        )
    wanted = found["alias"] or found["version"] or default
    return ModelUri(found["name"], f"v{wanted}" if wanted.isdecimal() else wanted)


def check_alias(alias: str) -> None:
    """Check that a name is a valid alias and not the name of a version.

    Raises:
        RegistryError: It is not.
    """
    if not _ALIAS.fullmatch(alias) or VERSION.fullmatch(alias) or alias == LATEST:
        raise RegistryError(f"{alias[:64]!r} can't be an alias: use a-z, 0-9, - and _, and not the name of a version")
