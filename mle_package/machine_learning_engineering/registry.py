"""Trained models on disk, as ``<registry>/<name>/<version>/{model.skops,manifest.json}``.

A version appears whole or not at all and never changes afterwards; which version is which is in ``aliases.json``.
Before a file is opened its bytes are compared with the manifest, and only types on an allow-list are built from it.
The digests find damage and mix-ups. They do not protect from somebody who can write the folder: the allow-list does, in
that no file can make this process run code.
"""

import fcntl
import hashlib
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from machine_learning_engineering import durable
from machine_learning_engineering.manifest import (
    CorruptModel,
    IncompatibleModel,
    Manifest,
    ModelNotFound,
    RegistryError,
    StoredFile,
    same_requests,
)
from machine_learning_engineering.model import MLEModel

__all__ = [
    "CHAMPION",
    "CorruptModel",
    "IncompatibleModel",
    "Manifest",
    "ModelNotFound",
    "Registry",
    "RegistryError",
    "StoredFile",
]

Model = TypeVar("Model", bound=MLEModel)

MODEL_FILE = "model.skops"
MANIFEST_FILE = "manifest.json"
ALIASES_FILE = "aliases.json"
CHAMPION = "champion"

# Types of scikit-learn that skops does not trust by itself. Each holds arrays and numbers only.
TRUSTED_TYPES = frozenset({"sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"})

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")
_VERSION = re.compile(r"v([1-9][0-9]{0,8})")


class Registry:
    """The models below one folder. Several processes may save, promote and open at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(
        self,
        model: MLEModel,
        *,
        metrics: Mapping[str, float],
        training_data_sha256: str,
        seed: int,
        params: Mapping[str, Any] | None = None,
    ) -> str:
        """Keep a fitted model as a new version, which is set on the model and returned. It is not promoted.

        Args:
            training_data_sha256: digest of the data that the model was fitted on.
            params: what else is worth knowing of the training run, as JSON values.

        Raises:
            RegistryError: the model is not fitted, or its file would not be opened again.
        """
        import sklearn
        import skops.io

        if model.estimator is None:
            raise RegistryError(f"model `{model.name}` is not fitted: call fit() before it is saved")
        content = skops.io.dumps(model.estimator)
        # A version that can't be opened again must not come into being.
        _check_types(content, type(model), "new version")
        folder = self._folder(model.name)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".saving-{uuid.uuid4().hex}"
        temporary.mkdir()
        try:
            durable.write(temporary / MODEL_FILE, content)
            while True:
                version = f"v{1 + max((_number(v) for v in self._version_folders(model.name)), default=0)}"
                manifest = Manifest(
                    name=model.name,
                    version=version,
                    created_at=datetime.now(UTC),
                    files={MODEL_FILE: StoredFile(hashlib.sha256(content).hexdigest(), len(content))},
                    metrics=dict(metrics),
                    primary_metric=model.primary_metric,
                    params=dict(params or {}),
                    features_schema=model.schema(),
                    training_data_sha256=training_data_sha256,
                    seed=seed,
                    scikit_learn_version=sklearn.__version__,
                )
                durable.write(temporary / MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
                if durable.rename_if_absent(temporary, folder / version):
                    break
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        model.version = version
        return version

    def open(self, name: str, alias_or_version: str = CHAMPION, *, model_class: type[Model]) -> Model:
        """The model of a version, ready to predict.

        Raises:
            ModelNotFound: no such model, version or alias.
            CorruptModel: a file is not what the manifest says, or holds types that are not trusted; it was not opened.
            IncompatibleModel: it was made for another schema or scikit-learn.
        """
        import sklearn
        import skops.io

        version = self.resolve(name, alias_or_version)
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
        content = self._verified(manifest, MODEL_FILE)
        types = _check_types(content, model_class, what)
        model = model_class()
        model.estimator = skops.io.loads(content, trusted=types)
        model.version = version
        return model

    def resolve(self, name: str, alias_or_version: str = CHAMPION) -> str:
        """The version that an alias points to; a version is its own.

        Raises:
            ModelNotFound: no such model, version or alias.
        """
        versions = self.versions(name)
        version = self.aliases(name).get(alias_or_version, alias_or_version)
        if version not in versions:
            known = ", ".join(versions) or "none"
            raise ModelNotFound(
                f"model `{name}` has no version or alias {alias_or_version!r} in {self.path} (versions: {known}): "
                f"run inflight train {name}"
            )
        return version

    def manifest(self, name: str, version: str) -> Manifest:
        """The manifest of a version.

        Raises:
            ModelNotFound: no such version.
            CorruptModel: it can't be read, or belongs to another model or version.
        """
        if version not in self.versions(name):
            raise ModelNotFound(f"model `{name}` has no version {version!r} in {self.path}")
        path = self._folder(name) / version / MANIFEST_FILE
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptModel(f"the manifest of model `{name}` {version} can't be read: {error}") from error
        if (manifest.name, manifest.version) != (name, version):
            raise CorruptModel(
                f"{path} belongs to model `{manifest.name}` {manifest.version}, not to `{name}` {version}"
            )
        return manifest

    def models(self) -> list[str]:
        """The names of the models that have a version."""
        if not self.path.is_dir():
            return []
        names = (folder.name for folder in self.path.iterdir() if NAME.fullmatch(folder.name))
        return sorted(name for name in names if self._version_folders(name))

    def versions(self, name: str) -> list[str]:
        """The versions of a model, oldest first; empty if there is none."""
        return sorted(self._version_folders(name), key=_number)

    def aliases(self, name: str) -> dict[str, str]:
        """The version of each alias of a model."""
        try:
            return msgspec.json.decode((self._folder(name) / ALIASES_FILE).read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except msgspec.MsgspecError as error:
            raise CorruptModel(f"the aliases of model `{name}` can't be read: {error}: promote a version") from error

    def champions(self) -> dict[str, str]:
        """The champion's version of each model that has one."""
        found = {name: self.aliases(name).get(CHAMPION) for name in self.models()}
        return {name: version for name, version in found.items() if version is not None}

    def promote(self, name: str, version: str) -> None:
        """Make a version the champion.

        Raises:
            ModelNotFound: no such version.
        """
        with self.promoting(name) as aliases:
            if version not in self.versions(name):
                raise ModelNotFound(f"model `{name}` has no version {version!r} in {self.path}")
            aliases[CHAMPION] = version

    @contextmanager
    def promoting(self, name: str) -> Iterator[dict[str, str]]:
        """The aliases of a model to be changed in place, while nobody else changes them; written at the end."""
        folder = self._folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                before = self.aliases(name)
            except CorruptModel:
                before = {}
            aliases = dict(before)
            yield aliases
            if aliases != before:
                durable.replace(folder / ALIASES_FILE, msgspec.json.encode(aliases))

    def _folder(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise RegistryError(f"{name[:128]!r} is not the name of a model: use a-z, 0-9, - and _")
        return self.path / name

    def _version_folders(self, name: str) -> list[str]:
        folder = self._folder(name)
        return [path.name for path in folder.iterdir() if _VERSION.fullmatch(path.name)] if folder.is_dir() else []

    def _verified(self, manifest: Manifest, file: str) -> bytes:
        """The bytes of a file of a version, once they are known to be those that were saved."""
        path = self._folder(manifest.name) / manifest.version / file
        what = f"{file} of model `{manifest.name}` {manifest.version}"
        try:
            expected, content = manifest.files[file], path.read_bytes()
        except (KeyError, OSError) as error:
            raise CorruptModel(f"{what} can't be read: {error}") from error
        if (found := hashlib.sha256(content).hexdigest()) != expected.sha256:
            raise CorruptModel(
                f"{what} has sha256 {found}, its manifest says {expected.sha256}: it was not opened; "
                f"restore the file or run inflight train {manifest.name}"
            )
        return content


def _number(version: str) -> int:
    return int(version[1:])


def _check_types(content: bytes, model_class: type[MLEModel], what: str) -> list[str]:
    """The types within a skops file beyond those that skops trusts, all of them on the allow-list."""
    import skops.io

    try:
        types: list[str] = skops.io.get_untrusted_types(data=content)
    except Exception as error:  # Whatever skops trips over, the file is not one that can be opened.
        raise CorruptModel(f"{MODEL_FILE} of {what} is not a skops file: {error}") from error
    if unknown := sorted(set(types) - TRUSTED_TYPES - model_class.trusted_types):
        raise CorruptModel(
            f"{MODEL_FILE} of {what} holds types that are not trusted: {', '.join(unknown)}; it was not opened. "
            f"If they are the model's own, list them in {model_class.__name__}.trusted_types"
        )
    return types
