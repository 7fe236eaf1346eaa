"""Trained models on disk, as ``<registry>/<name>/<version>/{model.skops,profile.json,manifest.json}``.

A version appears whole or not at all and never changes afterwards; which one is which, and was, is in ``aliases.json``.
Before a file is opened its bytes are compared with the manifest, and only types on an allow-list are built from it.
The digests find damage and mix-ups. They do not protect from somebody who can write the folder; the allow-list does in
part: a file names no code to run, but the parsers of the trusted types were not made for hostile bytes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.registry import aliases as alias_file
from machine_learning_engineering.registry import artifacts as version_files
from machine_learning_engineering.registry import skops_file
from machine_learning_engineering.registry.aliases import Aliases
from machine_learning_engineering.registry.artifacts import PROFILE_FILE
from machine_learning_engineering.registry.manifest import (
    AliasChange,
    CorruptModel,
    IncompatibleModel,
    Lineage,
    Manifest,
    ModelNotFound,
    RegistryError,
    finite,
    same_requests,
)
from machine_learning_engineering.registry.skops_file import MODEL_FILE
from machine_learning_engineering.registry.uri import CHAMPION, LATEST, NAME, check_alias, parse

if TYPE_CHECKING:
    from machine_learning_engineering.drift.profile import Profile

__all__ = ["Registry"]

ModelT = TypeVar("ModelT", bound=Model)


class Registry:
    """The models below one folder. Several processes may save, promote and open at the same time."""

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
    ) -> str:
        """Keep a fitted model as a new version, which is set on the model and returned. It is not promoted.

        Args:
            training_data_sha256: digest of the data that the model was fitted on.
            params: what else is worth knowing of the training run, as JSON values.
            profile: see `profile.reference_profile`; kept beside the model.
            lineage: where the model comes from; a parent that is not given is the champion of this moment.

        Raises:
            RegistryError: the model is not fitted, a metric is no finite number, or its file would not be opened again.
        """
        import sklearn

        if model.estimator is None:
            raise RegistryError(f"model `{model.name}` is not fitted: call fit() before it is saved")
        metrics = finite(metrics, model.name)
        contents = {MODEL_FILE: skops_file.dumps(model)}
        if profile is not None:
            contents[PROFILE_FILE] = msgspec.json.encode(profile)
        lineage = lineage or Lineage()
        if lineage.parent is None:
            lineage = msgspec.structs.replace(lineage, parent=self._champion(model.name))
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
        )
        model.version = version_files.add(self._folder(model.name), contents, manifest)
        return model.version

    def open(self, name: str, alias_or_version: str = CHAMPION, *, model_class: type[ModelT]) -> ModelT:
        """The model of a version, ready to predict. The name may be a URI, such as ``models:/diamonds@champion``.

        Raises:
            ModelNotFound: no such model, version or alias.
            CorruptModel: a file is not what the manifest says, or can't be opened with the trusted types and code here.
            IncompatibleModel: it was made for another schema or scikit-learn.
        """
        import sklearn

        name, version = self.locate(name, alias_or_version)
        manifest = self.manifest(name, version)
        what = f"model `{name}` {version}"
        if not same_requests(manifest.features_schema, model_class.schema()):
            raise IncompatibleModel(
                f"{what} was trained for other features than the code has: run inflight train {name}"
            )
        if manifest.scikit_learn_version.split(".")[:2] != sklearn.__version__.split(".")[:2]:
            raise IncompatibleModel(
                f"{what} was trained with scikit-learn {manifest.scikit_learn_version}, installed is "
                f"{sklearn.__version__}: run inflight train {name}"
            )
        content = version_files.verified(self._folder(name), manifest, MODEL_FILE)
        model = model_class()
        model.estimator = skops_file.loads(content, model_class, what)
        model.version = version
        return model

    def locate(self, uri: str, default: str = CHAMPION) -> tuple[str, str]:
        """The model and the version that a text names, such as ``diamonds@champion`` or ``models:/diamonds/3``.

        Args:
            default: the alias or version that is meant where the text gives none.

        Raises:
            ModelNotFound: no such model, version or alias.
            CorruptModel: an alias is asked for, and they can't be read.
            RegistryError: the text names nothing.
        """
        name, wanted = parse(uri, default)
        versions = self.versions(name)
        if versions and wanted == LATEST:
            wanted = versions[-1]
        if wanted in versions:  # No alias is named like a version: one can be promoted if the aliases are damaged.
            return name, wanted
        aliases = self.aliases(name)
        version = aliases.get(wanted, wanted)
        if version not in versions:
            known = ", ".join([*versions, *sorted(aliases)]) or "none"
            raise ModelNotFound(
                f"model `{name}` has no version or alias {wanted!r} in {self.path} (there are: {known}): "
                + ("see inflight models list" if versions else f"run inflight train {name}")
            )
        return name, version

    def resolve(self, name: str, alias_or_version: str = CHAMPION) -> str:
        """The version that an alias points to; a version is its own.

        Raises:
            ModelNotFound: no such model, version or alias.
        """
        return self.locate(name, alias_or_version)[1]

    def manifest(self, name: str, version: str) -> Manifest:
        """The manifest of a version.

        Raises:
            ModelNotFound: no such version.
            CorruptModel: it can't be read, or belongs to another model or version.
        """
        if version not in self.versions(name):
            raise ModelNotFound(f"model `{name}` has no version {version!r} in {self.path}")
        return version_files.manifest(self._folder(name), version)

    def profile(self, name: str, version: str) -> "Profile | None":
        """The reference profile of a version; None if it was saved without one.

        Raises:
            ModelNotFound: no such version.
            CorruptModel: it is not what was saved.
        """
        from machine_learning_engineering.drift.profile import Profile

        manifest = self.manifest(name, version)
        if PROFILE_FILE not in manifest.files:
            return None
        try:
            return msgspec.json.decode(version_files.verified(self._folder(name), manifest, PROFILE_FILE), type=Profile)
        except msgspec.MsgspecError as error:
            raise CorruptModel(f"{PROFILE_FILE} of model `{name}` {version} is no profile: {error}") from error

    def verify(self, name: str, version: str) -> Manifest:
        """The manifest of a version, all of whose files are as they were saved.

        Raises:
            ModelNotFound: no such version.
            CorruptModel: one of them is not.
        """
        manifest = self.manifest(name, version)
        for file in manifest.files:
            version_files.verified(self._folder(name), manifest, file)
        return manifest

    def models(self) -> list[str]:
        """The names of the models that have a version."""
        if not self.path.is_dir():
            return []
        names = (folder.name for folder in self.path.iterdir() if NAME.fullmatch(folder.name))
        return sorted(name for name in names if self.versions(name))

    def versions(self, name: str) -> list[str]:
        """The versions of a model, oldest first; empty if there is none."""
        return version_files.versions(self._folder(name))

    def aliases(self, name: str) -> dict[str, str]:
        """The version of each alias of a model.

        Raises:
            CorruptModel: they can't be read.
        """
        return alias_file.read(self._folder(name))[0]

    def history(self, name: str) -> list[AliasChange]:
        """The changes of a model's aliases, oldest first.

        Raises:
            CorruptModel: they can't be read.
        """
        return alias_file.read(self._folder(name))[1]

    def champions(self) -> dict[str, str]:
        """The champion's version of each model that has one."""
        found = {name: self.aliases(name).get(CHAMPION) for name in self.models()}
        return {name: version for name, version in found.items() if version is not None}

    def promote(self, name: str, version: str, *, alias: str = CHAMPION, reason: str = "") -> None:
        """Make a version the champion, or let another alias point to it. A challenger that wins loses its alias.

        Aliases that can't be read are made anew, with this one alone.

        Raises:
            ModelNotFound: no such version.
            CorruptModel: a file of it is not as it was saved.
        """
        check_alias(alias)
        with alias_file.changing(self._folder(name), reason, anew=True) as aliases:
            self.verify(name, version)
            aliases[alias] = version

    def rollback(self, name: str, *, reason: str = "") -> str:
        """Make the champion before this one the champion again; which version that is.

        Raises:
            ModelNotFound: there was none before, or its version is gone.
            CorruptModel: a file of it is not as it was saved.
        """
        with self.promoting(name, reason) as aliases:
            version = alias_file.champion_before(self.history(name))
            if version is None:
                raise ModelNotFound(
                    f"model `{name}` has no champion before {aliases.get(CHAMPION, 'the first')} to go back to: "
                    f"choose a version, such as {name}:v1, with inflight models promote"
                )
            self.verify(name, version)
            aliases[CHAMPION] = version
            aliases.rollback = True
        return version

    @contextmanager
    def promoting(self, name: str, reason: str = "") -> Iterator[Aliases]:
        """The aliases of a model to be changed in place, while nobody else changes them; written at the end.

        What changed goes to the history with the `reason`, which may also be set on what is yielded.

        Raises:
            CorruptModel: they can't be read; `promote` makes them anew.
        """
        with alias_file.changing(self._folder(name), reason) as aliases:
            yield aliases

    def _champion(self, name: str) -> str | None:
        try:
            return self.aliases(name).get(CHAMPION)
        except CorruptModel:
            return None

    def _folder(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise RegistryError(f"{name[:128]!r} is not the name of a model: use a-z, 0-9, - and _")
        return self.path / name
