"""Life cycle of trained models on disk: save, open, promote and roll back versions.

Layout: ``<registry>/<name>/<version>/{model.skops,profile.json,similar.jsonl,manifest.json}``, of which profile and
index are optional, and ``<registry>/<name>/aliases.json``.
A version is written atomically and never changes; aliases say which version is the champion, and was. Before a file is
opened, its SHA-256 is compared with the manifest, and only types on an allow-list are built from it.
The digests detect damage and mix-ups. They do not protect against an attacker who can write the folder. The allow-list
does in part: a file can't name code to run, but the parsers of the trusted types are not hardened.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.declaration.reading import DECLARATION_FILE
from machine_learning_engineering.registry import aliases as alias_file
from machine_learning_engineering.registry import artifacts, compatibility, skops_file
from machine_learning_engineering.registry.aliases import Aliases
from machine_learning_engineering.registry.artifacts import PROFILE_FILE
from machine_learning_engineering.registry.manifest import (
    AliasChange,
    CorruptModel,
    Lineage,
    Manifest,
    ModelNotFound,
    RegistryError,
    require_finite,
)
from machine_learning_engineering.registry.similar import SIMILAR_FILE
from machine_learning_engineering.registry.skops_file import MODEL_FILE
from machine_learning_engineering.registry.uri import CHAMPION, LATEST, NAME, check_alias, parse

if TYPE_CHECKING:
    from machine_learning_engineering.drift.profile import Profile

__all__ = ["Registry"]

ModelT = TypeVar("ModelT", bound=Model)


class Registry:
    """Models in one folder. Several processes may save, promote and open at the same time.

    Methods raise `ModelNotFound` for an unknown model, version or alias, and `CorruptModel` for a damaged file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(
        self,
        model: Model,
        *,
        metrics: Mapping[str, float],
        training_data_sha256: str,
        seed: int,
        params: Mapping[str, Any] | None = None,
        profile: "Profile | None" = None,
        lineage: Lineage | None = None,
        similar: bytes | None = None,
        declaration: bytes | None = None,
    ) -> str:
        """Store a fitted model as a new version. It is not promoted.

        Args:
            model: The fitted model; its `version` is set.
            metrics: Finite metrics by name.
            training_data_sha256: Digest of the training data.
            seed: Seed of the training run.
            params: Further facts about the training run, as JSON values.
            profile: Reference profile of the training data, see `drift.binning.reference_profile`.
            lineage: Origin of the version. The parent defaults to the current champion.
            similar: Index of the training rows, see `registry.similar`.
            declaration: The declaration of an adopted model, as TOML; the model's own by default.

        Returns:
            The new version, such as ``v3``.

        Raises:
            RegistryError: The model is not fitted, a metric is not finite, or the file would not open again.
        """
        import sklearn

        if model.estimator is None:
            raise RegistryError(f"model `{model.name}` is not fitted: call fit() before it is saved")
        metrics = require_finite(metrics, model.name)
        contents = {MODEL_FILE: skops_file.dumps(model)}
        if profile is not None:
            contents[PROFILE_FILE] = msgspec.json.encode(profile)
        if similar is not None:
            contents[SIMILAR_FILE] = similar
        if declaration := declaration or model.declaration:
            contents[DECLARATION_FILE] = declaration
        lineage = lineage or Lineage()
        if lineage.parent is None:
            lineage = msgspec.structs.replace(lineage, parent=self.alias(model.name, CHAMPION))
        manifest = Manifest(
            name=model.name,
            version="",
            created_at=datetime.now(UTC),
            files={},
            metrics=metrics,
            primary_metric=model.primary_metric,
            params=dict(params or {}),
            features_schema=model.schema(),
            training_data_sha256=training_data_sha256,
            seed=seed,
            scikit_learn_version=sklearn.__version__,
            lineage=lineage,
            libraries=compatibility.libraries(contents[MODEL_FILE]),
            prediction_schema=msgspec.json.schema(model.Prediction),
            prediction_name=model.prediction_name,
            redacted_features=dict(model.redacted_features),
        )
        model.version = artifacts.add(self._folder(model.name), contents, manifest)
        return model.version

    def open(self, name: str, alias_or_version: str = CHAMPION, *, model_class: type[ModelT]) -> ModelT:
        """Open a version for prediction.

        Args:
            name: Name or URI of the model, such as ``models:/diamonds@champion``.
            alias_or_version: The version to open if `name` does not say.
            model_class: The model's class.

        Returns:
            A new model with `estimator` and `version` set.

        Raises:
            CorruptModel: Also if the file holds untrusted types, or can't be built with the installed code.
            IncompatibleModel: The version needs another schema, or another version of a library.
        """
        name, version = self.locate(name, alias_or_version)
        model_class, content = self._read_compatible(name, version, model_class)
        model = model_class()
        model.estimator = skops_file.loads(content, model_class, f"model `{name}` {version}")
        model.version = version
        return model

    def check(self, name: str, version: str, model_class: type[Model]) -> None:
        """Check what can be checked before a version is built.

        Raises:
            CorruptModel, IncompatibleModel: As `open`.
        """
        version_class, content = self._read_compatible(name, version, model_class)
        skops_file.check_types(content, version_class, f"model `{name}` {version}")

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
                f"model `{name}` has no version or alias {wanted[:128]!r} in {self.path} (there are: {known}): "
                + ("see inflight models list" if versions else f"run inflight train {name}")
            )
        return name, version

    def resolve(self, name: str, alias_or_version: str = CHAMPION) -> str:
        """The version that an alias points to. A version resolves to itself."""
        return self.locate(name, alias_or_version)[1]

    def manifest(self, name: str, version: str) -> Manifest:
        """Read the manifest of a version."""
        if version not in self.versions(name):
            raise ModelNotFound(f"model `{name}` has no version {version!r} in {self.path}: see inflight models list")
        return artifacts.read_manifest(self._folder(name), version)

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
        """Read the declaration of an adopted version, as TOML; None for a version of a class."""
        manifest = self.manifest(name, version)
        return self._read_verified(manifest, DECLARATION_FILE) if DECLARATION_FILE in manifest.files else None

    def verify(self, name: str, version: str) -> Manifest:
        """Verify the digests of all files of a version and return its manifest."""
        manifest = self.manifest(name, version)
        for file in manifest.files:
            self._read_verified(manifest, file)
        return manifest

    def models(self) -> list[str]:
        """List the names of the models that have a version, sorted."""
        if not self.path.is_dir():
            return []
        names = (folder.name for folder in self.path.iterdir() if NAME.fullmatch(folder.name))
        return sorted(name for name in names if self.versions(name))

    def versions(self, name: str) -> list[str]:
        """List the versions of a model, oldest first. The list is empty for an unknown model."""
        return artifacts.versions(self._folder(name))

    def aliases(self, name: str) -> dict[str, str]:
        """Read the version of each alias of a model."""
        return alias_file.read(self._folder(name))[0]

    def history(self, name: str) -> list[AliasChange]:
        """Read the last changes of a model's aliases, oldest first; at most `aliases.MAX_HISTORY`."""
        return alias_file.read(self._folder(name))[1]

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

    def promote(self, name: str, version: str, *, alias: str = CHAMPION, reason: str = "") -> None:
        """Point an alias, the champion by default, to a version. A challenger that becomes champion loses its alias.

        Three callers make a champion: training and, if it is asked to, retraining (rule of both: `training.promotion`),
        and a person, by `inflight models promote`. If the alias file is unreadable, a new one with this alias alone
        replaces it.
        """
        check_alias(alias)
        with alias_file.edit(self._folder(name), reason, reset_if_corrupt=True) as aliases:
            self.verify(name, version)
            aliases[alias] = version

    def rollback(self, name: str, *, reason: str = "") -> str:
        """Promote the previous champion again and return its version.

        Raises:
            ModelNotFound: There was no previous champion, or its version is missing.
        """
        with self.edit_aliases(name, reason) as aliases:
            version = alias_file.previous_champion(self.history(name))
            if version is None:
                raise ModelNotFound(
                    f"model `{name}` has no champion before {aliases.get(CHAMPION, 'the first')} to roll back to: "
                    f"choose a version, such as {name}:v1, with inflight models promote"
                )
            self.verify(name, version)
            aliases[CHAMPION] = version
            aliases.rollback = True
        return version

    def edit_aliases(self, name: str, reason: str = "") -> AbstractContextManager[Aliases]:
        """Lock the aliases of a model and yield them for editing in place; they are written at the end of the block.

        The history records each change with `reason`, which may also be set on the yielded aliases.
        """
        return alias_file.edit(self._folder(name), reason)

    def alias(self, name: str, alias: str) -> str | None:
        """Read the version of an alias; None without one, or if the file is unreadable, which a promotion replaces."""
        try:
            return self.aliases(name).get(alias)
        except CorruptModel:
            return None

    def _read_compatible(self, name: str, version: str, model_class: type[ModelT]) -> tuple[type[ModelT], bytes]:
        """Read the model file of a version that the installed code fits, and the class to open it with."""
        manifest, what = self.manifest(name, version), f"model `{name}` {version}"
        if DECLARATION_FILE in manifest.files:
            declared = self._read_verified(manifest, DECLARATION_FILE)
            model_class = compatibility.declared_class(declared, model_class, what)
        compatibility.check(manifest, model_class, what)
        return model_class, self._read_verified(manifest, MODEL_FILE)

    def _read_verified(self, manifest: Manifest, file: str) -> bytes:
        return artifacts.read_verified(self._folder(manifest.name), manifest, file)

    def _folder(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise RegistryError(f"{name[:128]!r} is not the name of a model: use a-z, 0-9, - and _")
        return self.path / name
