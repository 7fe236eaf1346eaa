"""From a file, a folder or a URI of MLflow to a fitted estimator."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from machine_learning_engineering.adoption.opening import mlflow_model, process, trusted
from machine_learning_engineering.adoption.opening.answers import Answers
from machine_learning_engineering.adoption.opening.mlflow_model import Signature
from machine_learning_engineering.adoption.opening.refusal import ModelRefused

_FORMATS = {
    ".skops": "skops",
    ".joblib": "joblib",
    ".jl": "joblib",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".cloudpickle": "pickle",
    ".gz": "joblib",
    ".z": "joblib",
    ".xz": "joblib",
    ".lzma": "joblib",
    ".bz2": "joblib",
}
MAX_BYTES = 2 * 1024**3


class OpenedModel(NamedTuple):
    """A fitted estimator that was made of a skops file, whatever it came as."""

    estimator: Any
    content: bytes
    """The skops file."""
    types: tuple[str, ...]
    """Types in it that skops does not trust on its own; all of them are on the registry's list."""
    format: str
    """``skops``, ``joblib`` or ``pickle``."""
    sha256: str
    """Of the file that was opened."""
    scikit_learn_version: str
    """That fitted it, as far as the file says; otherwise the installed one."""
    signature: Signature | None = None
    """Columns by MLflow's signature."""
    answers: Answers | None = None
    """What the original object of a pickle has answered for the sample."""


def open_model(source: str, sample: Any = None) -> OpenedModel:
    """Open a fitted model.

    A pickle is read once, by a process of its own, which writes it as skops; nothing that it asks for is called unless
    its name is on the list, see `names` and `rebuild`. This process opens skops only.

    Args:
        source: Path of a ``.skops``, ``.joblib`` or ``.pkl`` file, packed or not; folder of an MLflow model; or URI of
            one, ``mlflow:PATH``, ``mlflow:models:/NAME/VERSION`` or ``mlflow:runs:/ID/PATH``.
        sample: Data frame whose rows the original object answers before it is given up: `answers`.

    Raises:
        ModelRefused: It can't be opened, or should not be. The message names what it asked for, and the fix.
        ImportError: MLflow is not installed, and `source` is a URI of a registry.
    """
    path, signature = mlflow_model.resolve(source)
    if path.is_dir():
        raise ModelRefused(f"{source} is a folder without a file MLmodel: name the model's file, such as model.joblib")
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ModelRefused(
            f"{path.name} has an unknown ending: .skops, .joblib, .pkl and .pickle are opened, and folders of MLflow's"
        )
    content = _read(path)
    sha256 = hashlib.sha256(content).hexdigest()
    if kind == "skops":
        import sklearn

        estimator, types = trusted.loads(content, path.name)
        return OpenedModel(estimator, content, types, kind, sha256, sklearn.__version__, signature)
    report = process.convert(content, path.name, sample)
    estimator, types = trusted.loads(report.content, path.name)
    version = report.scikit_learn_versions[0] if report.scikit_learn_versions else report.installed
    answers = Answers(list(sample.index), report.batch, report.alone) if sample is not None else None
    return OpenedModel(estimator, report.content, types, kind, sha256, version, signature, answers)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelRefused(f"{path} has more than {MAX_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ModelRefused(f"{path} can't be read: {error.strerror or error}") from error
