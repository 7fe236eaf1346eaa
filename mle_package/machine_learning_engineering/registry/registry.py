"""Life cycle of trained models: save, open, promote and roll back versions.

`registry.files` says where the files are. A version is written atomically and never changes; aliases say which version
is the champion, and was. Before a file is opened, its SHA-256 is compared with the manifest, and only types on an
allow-list are built from it.

The digests detect damage and mix-ups. Against an attacker who can write the files, manifests and aliases are signed
(`registry.signing`). Without a key, only the allow-list protects, in part: a file can't name code to run, but the
parsers of the trusted types are not hardened.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.declaration.reading import DECLARATION_FILE
from machine_learning_engineering.registry import aliases as alias_file
from machine_learning_engineering.registry import artifacts, compatibility, rolling, skops_file
from machine_learning_engineering.registry.aliases import Aliases
from machine_learning_engineering.registry.artifacts import PROFILE_FILE
from machine_learning_engineering.registry.manifest import (
    Lineage,
    Manifest,
    ModelNotFound,
    RegistryError,
    require_finite,
)
from machine_learning_engineering.registry.reader import RegistryReader, require_name
from machine_learning_engineering.registry.similar import SIMILAR_FILE
from machine_learning_engineering.registry.skops_file import MODEL_FILE
from machine_learning_engineering.registry.uri import CHAMPION, check_alias

if TYPE_CHECKING:
    from machine_learning_engineering.drift.profile import Profile

__all__ = ["Registry"]

ModelT = TypeVar("ModelT", bound=Model)
ResultT = TypeVar("ResultT")


class Registry(RegistryReader):
    """Models in one folder or behind one URL. Several processes and machines may use it at the same time.

    Methods raise `ModelNotFound` for an unknown model, version or alias, `CorruptModel` if a file is unreadable,
    differs from what was saved or is not signed although there is a key, and `StoreUnavailable`, an `OSError`, if the
    store is unavailable.

    Args:
        place: A local folder or URL; or the location that the settings give (`settings.registry_dir`), which has the
            keys and the cache.
    """

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

        require_name(model.name)
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
        model.version = artifacts.add(self.files, contents, manifest)
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
        model.opened()
        return model

    def check(self, name: str, version: str, model_class: type[Model]) -> None:
        """Check what can be checked before a version is built.

        Raises:
            CorruptModel, IncompatibleModel: As `open`.
        """
        version_class, content = self._read_compatible(name, version, model_class)
        skops_file.check_types(content, version_class, f"model `{name}` {version}")

    def promote(self, name: str, version: str, *, alias: str = CHAMPION, reason: str = "") -> None:
        """Point an alias, the champion by default, to a version. A challenger that becomes champion loses its alias.

        Three callers make a champion: training and, if it is asked to, retraining (rule of both: `training.promotion`),
        and a person, by `inflight models promote`. If the alias file is unreadable, a new one with this alias alone
        replaces it. A rollout makes its own, see `registry.rolling`; any other ends an open one.

        Raises:
            RegistryError: Also if the version is barred and would be the champion.
        """
        check_alias(alias)

        def change(aliases: Aliases) -> None:
            self.verify(name, version)
            aliases[alias] = version

        self.change_aliases(name, change, reason, reset_if_corrupt=True)

    def rollback(self, name: str, *, reason: str = "") -> str:
        """Promote the previous champion again and return its version.

        Raises:
            ModelNotFound: There was no previous champion, or its version is missing.
            RegistryError: It is barred.
        """

        def change(aliases: Aliases) -> str:
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

        return self.change_aliases(name, change, reason)

    def change_aliases(
        self, name: str, change: Callable[[Aliases], ResultT], reason: str = "", *, reset_if_corrupt: bool = False
    ) -> ResultT:
        """Change the aliases of a model in place, and again from the start if another machine was faster.

        Another champion must not be barred, and ends an open rollout of the model.

        Args:
            name: Of the model.
            change: Called with the aliases as they are now, perhaps more than once. If it raises, nothing changes.
            reason: For the history.
            reset_if_corrupt: Start without aliases if the file is unreadable.

        Returns:
            What the last call of `change` returned.

        Raises:
            AliasesChanged: Others are faster each time.
            RegistryError: The new champion is barred.
        """

        def edit() -> tuple[ResultT, bool]:
            with alias_file.edit(self.files, require_name(name), reason, reset_if_corrupt=reset_if_corrupt) as aliases:
                before = aliases.get(CHAMPION)
                found, champion = change(aliases), aliases.get(CHAMPION)
                if replaced := champion is not None and champion != before:
                    rolling.refuse_barred(self, name, champion)
            return found, replaced

        found, replaced = rolling.until_written(edit)
        if replaced:
            rolling.reconcile(self, name, datetime.now(UTC))
        return found

    def edit_aliases(self, name: str, reason: str = "") -> AbstractContextManager[Aliases]:
        """Yield the aliases of a model for editing in place; they are written at the end of the block.

        In a local folder they are locked. The history records each change with `reason`, which may also be set on the
        yielded aliases.

        Raises:
            AliasesChanged: Behind a URL, another machine has changed them in the meantime; `change_aliases` repeats.
        """
        return alias_file.edit(self.files, require_name(name), reason)

    def _read_compatible(self, name: str, version: str, model_class: type[ModelT]) -> tuple[type[ModelT], bytes]:
        """Read the model file of a version that the installed code fits, and the class to open it with."""
        manifest, what = self.manifest(name, version), f"model `{name}` {version}"
        if DECLARATION_FILE in manifest.files:
            declared = artifacts.read_verified(self.files, manifest, DECLARATION_FILE)
            model_class = compatibility.declared_class(declared, model_class, what)
        compatibility.check(manifest, model_class, what)
        return model_class, artifacts.read_verified(self.files, manifest, MODEL_FILE)
