"""Models of MLflow's: a folder with a file `MLmodel`, which is read without MLflow."""

import json
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from machine_learning_engineering.adoption.opening.refusal import ModelRefused
from machine_learning_engineering.core.extras import require

_SCHEME = "mlflow:"
_FILE = "MLmodel"
_MAX_FILE = 10 * 1024**2
_FLAVOURS = ("sklearn", "xgboost", "lightgbm")
_ENDINGS = {"skops": ".skops", "cloudpickle": ".pkl", "pickle": ".pkl", "joblib": ".joblib"}


class Column(NamedTuple):
    """A column of a signature."""

    name: str
    type: str
    """MLflow's name, such as ``double``, ``long``, ``string``, ``boolean`` or ``datetime``."""
    required: bool


class Signature(NamedTuple):
    """What a model takes, as MLflow has kept it."""

    inputs: tuple[Column, ...]


def resolve(source: str) -> tuple[Path, Signature | None]:
    """The file of a model, and its signature if MLflow knows one.

    Raises:
        ModelRefused: A folder of MLflow's holds no model that can be opened.
        ImportError: A URI of a registry needs MLflow, which is not installed.
    """
    if source.startswith(("models:/", "runs:/", "mlflow-artifacts:/")):
        source = _SCHEME + source
    path = _downloaded(source.removeprefix(_SCHEME)) if source.startswith(_SCHEME) else Path(source)
    if path.name == _FILE and path.is_file():
        path = path.parent
    if not (path / _FILE).is_file():
        if source.startswith(_SCHEME):
            raise ModelRefused(f"{source} has no file {_FILE}: name the folder of a model")
        return path, None
    return _of_folder(path)


def _downloaded(uri: str) -> Path:
    split = urlsplit(uri)
    if split.scheme == "file":
        return Path(unquote(split.path))
    if split.scheme in ("", "."):
        return Path(uri)
    artifacts = require("mlflow.artifacts", "mlflow")
    try:
        return Path(artifacts.download_artifacts(artifact_uri=uri))
    except Exception as error:  # MLflow's store may raise anything, as may what is under it.
        raise ModelRefused(f"MLflow does not give {uri}: {error!s:.500}") from error


def _of_folder(folder: Path) -> tuple[Path, Signature | None]:
    described = _described(folder / _FILE)
    flavours = described.get("flavors")
    flavours = flavours if isinstance(flavours, dict) else {}
    name = next((one for one in _FLAVOURS if isinstance(flavours.get(one), dict)), None)
    if name is None:
        raise ModelRefused(
            f"{folder / _FILE} has the flavours {', '.join(map(str, flavours)) or 'none'}: models of the flavours "
            f"{', '.join(_FLAVOURS)} are opened"
        )
    flavour = flavours[name]
    data = flavour.get("pickled_model") or flavour.get("data") or flavour.get("model_path") or "model.pkl"
    path = (folder / str(data)).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise ModelRefused(f"{folder / _FILE} names the file {data!r:.200}, which is not in the folder")
    return path, _signature(described.get("signature"), folder / _FILE)


def _described(path: Path) -> dict[str, Any]:
    yaml = require("yaml", "adopt")
    if path.stat().st_size > _MAX_FILE:
        raise ModelRefused(f"{path} has more than {_MAX_FILE:,} bytes")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ModelRefused(f"{path} is not YAML: {error!s:.300}") from error
    if not isinstance(found, dict):
        raise ModelRefused(f"{path} is not a description of a model")
    return found


def _signature(found: Any, path: Path) -> Signature | None:
    inputs = found.get("inputs") if isinstance(found, dict) else None
    if not isinstance(inputs, str):
        return None
    try:
        columns = json.loads(inputs)
        return Signature(
            tuple(
                Column(str(one["name"]), str(one["type"]), bool(one.get("required", True)))
                for one in columns
                if "name" in one and "type" in one
            )
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelRefused(f"{path}: the inputs of the signature can't be read: {error!s:.300}") from error
