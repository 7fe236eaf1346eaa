"""The read side of a registry: which models, versions and aliases there are, and their files. It opens no model."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from machine_learning_engineering.declaration.reading import DECLARATION_FILE
from machine_learning_engineering.registry import aliases as alias_file
from machine_learning_engineering.registry import artifacts
from machine_learning_engineering.registry import rollouts as rollout_file
from machine_learning_engineering.registry.artifacts import PROFILE_FILE
from machine_learning_engineering.registry.files import RegistryFiles
from machine_learning_engineering.registry.manifest import (
    AliasChange,
    CorruptModel,
    Manifest,
    ModelNotFound,
    RegistryError,
)
from machine_learning_engineering.registry.uri import CHAMPION, LATEST, NAME, parse
from machine_learning_engineering.rollout.record import Rollout, Rollouts
from machine_learning_engineering.storage.location import Place, parse_place

if TYPE_CHECKING:
    from machine_learning_engineering.drift.profile import Profile


class RegistryReader:
    """What is in a registry. Methods raise as those of `registry.registry.Registry`."""

    def __init__(self, place: Place | str) -> None:
        self.place = parse_place(place)
        self.files = RegistryFiles(self.place)

    @property
    def path(self) -> Path:
        """The folder.

        Raises:
            RegistryError: The registry is not in a local folder.
        """
        if self.files.path is None:
            raise RegistryError(f"{self.place} is not a local folder")
        return self.files.path

    def locate(self, uri: str, default: str = CHAMPION) -> tuple[str, str]:
        """Resolve a URI, such as ``diamonds@champion`` or ``models:/diamonds/3``, to an existing version.

        Args:
            uri: Name or URI of a model.
            default: The alias or version to use if `uri` has neither.

        Returns:
            The model's name and the version.

        Raises:
            RegistryError: `uri` is malformed.
        """
        name, wanted = parse(uri, default)
        versions = self.versions(name)
        if versions and wanted == LATEST:
            wanted = versions[-1]
        if wanted in versions:  # Checked before the aliases, so that promotion can repair an unreadable alias file.
            return name, wanted
        aliases = self.aliases(name)
        version = aliases.get(wanted, wanted)
        if version not in versions:
            known = ", ".join([*versions, *sorted(aliases)]) or "none"
            raise ModelNotFound(
                f"model `{name}` has no version or alias {wanted[:128]!r} in {self.place} (there are: {known}): "
                + ("see inflight models list" if versions else f"run inflight train {name}")
            )
        return name, version

    def resolve(self, name: str, alias_or_version: str = CHAMPION) -> str:
        """The version that an alias points to. A version resolves to itself."""
        return self.locate(name, alias_or_version)[1]

    def manifest(self, name: str, version: str) -> Manifest:
        """Read the manifest of a version."""
        if version not in self.versions(name):
            raise ModelNotFound(f"model `{name}` has no version {version!r} in {self.place}: see inflight models list")
        return artifacts.read_manifest(self.files, name, version)

    def profile(self, name: str, version: str) -> "Profile | None":
        """Read the reference profile of a version. Returns None if the version was saved without one."""
        from machine_learning_engineering.drift.profile import Profile

        manifest = self.manifest(name, version)
        if PROFILE_FILE not in manifest.files:
            return None
        try:
            return msgspec.json.decode(self._read_verified(manifest, PROFILE_FILE), type=Profile)
        except (ValueError, RecursionError) as error:
            raise CorruptModel(
                f"{PROFILE_FILE} of model `{name}` {version} is not a profile ({error!s:.500}): "
                f"run inflight train {name}"
            ) from error

    def declaration(self, name: str, version: str) -> bytes | None:
        """Read the declaration of an adopted version, as TOML. Returns None for a version of a class."""
        manifest = self.manifest(name, version)
        return self._read_verified(manifest, DECLARATION_FILE) if DECLARATION_FILE in manifest.files else None

    def verify(self, name: str, version: str) -> Manifest:
        """Verify the digests of all files of a version, as they are stored now, and return its manifest."""
        manifest = self.manifest(name, version)
        for file in manifest.files:
            artifacts.read_verified(self.files, manifest, file, fresh=True)
        return manifest

    def models(self) -> list[str]:
        """List the names of the models that have a version, sorted."""
        return [name for name in self.files.names() if self.versions(name)]

    def versions(self, name: str) -> list[str]:
        """List the versions of a model, oldest first. The list is empty for an unknown model."""
        return artifacts.versions(self.files, require_name(name))

    def aliases(self, name: str) -> dict[str, str]:
        """Read the version of each alias of a model."""
        return alias_file.read(self.files, require_name(name))[0]

    def history(self, name: str) -> list[AliasChange]:
        """Read the last changes of a model's aliases, oldest first; at most `aliases.MAX_HISTORY`."""
        return alias_file.read(self.files, require_name(name))[1]

    def rollouts(self, name: str) -> Rollouts:
        """Read the rollouts of a model, and which of its versions are barred."""
        return rollout_file.read(self.files, require_name(name))

    def rollout(self, name: str) -> Rollout | None:
        """Read the open rollout of a model; None if there is none."""
        current = self.rollouts(name).current
        return current if current is not None and current.is_open else None

    def named(self, name: str) -> set[str]:
        """The versions of a model that an alias or its open or last rollout names."""
        current = self.rollouts(name).current
        rolled = {current.champion, current.challenger} if current is not None else set()
        return rolled | set(self.aliases(name).values())

    def champions(self) -> dict[str, str]:
        """Read the champion's version by model. Models without a champion are left out."""
        found = {name: self.aliases(name).get(CHAMPION) for name in self.models()}
        return {name: version for name, version in found.items() if version is not None}

    def overview(self) -> tuple[list[tuple[Manifest, dict[str, str]]], list[CorruptModel]]:
        """Read every version with the aliases of its model; and the errors of what can't be read."""
        versions: list[tuple[Manifest, dict[str, str]]] = []
        errors = []
        for name in self.models():
            aliases: dict[str, str] = {}
            try:
                aliases = self.aliases(name)
            except CorruptModel as error:
                errors.append(error)
            for version in self.versions(name):
                try:
                    versions.append((self.manifest(name, version), aliases))
                except CorruptModel as error:
                    errors.append(error)
        return versions, errors

    def alias(self, name: str, alias: str) -> str | None:
        """Read the version of an alias; None without one, or if the file is unreadable, which a promotion replaces."""
        try:
            return self.aliases(name).get(alias)
        except CorruptModel:
            return None

    def _read_verified(self, manifest: Manifest, file: str) -> bytes:
        return artifacts.read_verified(self.files, manifest, file)


def require_name(name: str) -> str:
    """Check that a text may be the name of a model, and return it. Raises `RegistryError`."""
    if not NAME.fullmatch(name):
        raise RegistryError(f"{name[:128]!r} is not the name of a model: use a-z, 0-9, - and _")
    return name
