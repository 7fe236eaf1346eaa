"""The contract of a model: what a data scientist writes, and what training, the registry and the stream call.

A subclass names itself, states the Structs of its features and its prediction, and writes the five methods that raise
`MethodNotImplemented` here. Nothing else is needed to train it, keep it and stream through it.
"""

from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import msgspec
from msgspec import Raw, Struct

from machine_learning_engineering.core.candidate import Candidate
from machine_learning_engineering.core.csv_row import example_from_row
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.validation import InvalidFeatures, explain

__all__ = ["Model", "MethodNotImplemented", "RedactAction"]

RedactAction = Literal["keep", "hash", "drop"]
"""How the prediction log stores a feature: unchanged, as a keyed hash, or not at all."""


class MethodNotImplemented(NotImplementedError):
    """A method or attribute that the author of a model has to write is not written yet."""


class Model(ABC):
    """A model: the schema of its requests, how it is trained and how it answers.

    `predict` is called from several threads at once and must neither change its input nor the model.
    """

    name: ClassVar[str]
    """Lower case letters, digits, `-` and `_`, such as ``diamonds``: what a request names."""
    Features: ClassVar[type[Struct]]
    """Frozen, with ``forbid_unknown_fields=True``; constraints as `msgspec.Meta`."""
    Prediction: ClassVar[type[Struct]]
    """Frozen; what a result holds as `prediction`."""
    primary_metric: ClassVar[str]
    """The key of `evaluate`'s answer that decides between two versions; the greater is the better."""
    trusted_types: ClassVar[frozenset[str]] = frozenset()
    """Types in the model's file beyond those that the registry trusts, such as ``my_package.steps.Clip``."""
    dataset_sha256: ClassVar[str] = ""
    """What `examples` reads, as a digest, if it is a pinned file."""
    Label: ClassVar[Any] = Any
    """The type of a label, as msgspec reads it from JSON, such as ``Annotated[float, Meta(gt=0)]``."""
    label_name: ClassVar[str] = "label"
    """The label's column in files of examples, such as ``price``."""
    feature_names_in: ClassVar[tuple[str, ...]] = ()
    """The names of what `build_inputs` gives, in its order: for stored layers and for plots of what matters."""

    redacted_features: ClassVar[Mapping[str, RedactAction]] = {}
    """What the stream's prediction log does not hold as it was sent: ``{"name": "hash", "ticket": "drop"}``; ``*`` is
    every other feature. The settings may add to it, see `machine_learning_engineering.observability.redaction`."""

    version: str = "unversioned"
    """The registry's version; "unversioned" until saved or opened."""
    estimator: Any = None
    """The fitted scikit-learn estimator or pipeline: the state that the registry keeps. None until fitted."""

    _decode: ClassVar[msgspec.json.Decoder[Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "Features" in cls.__dict__:
            cls._decode = msgspec.json.Decoder(cls.Features)

    def __init__(self) -> None:
        for attribute, meaning in (
            ("name", 'a text such as "diamonds"'),
            ("Features", "a frozen msgspec.Struct with forbid_unknown_fields=True"),
            ("Prediction", "a frozen msgspec.Struct"),
            ("primary_metric", 'a key of what `evaluate` returns, such as "r2"'),
        ):
            if not hasattr(self, attribute):
                raise MethodNotImplemented(f"{type(self).__name__}.{attribute} is not set: it must be {meaning}")

    # --- what the author of a model writes ---------------------------------------------------------------------------

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        """The labelled dataset, always in the same order.

        Args:
            data_dir: where downloaded files are kept; the settings' folder by default.
        """
        _not_written(cls, "examples", "an iterator over `Example(features, label)`")

    def new_estimator(self, seed: int) -> Any:
        """An unfitted scikit-learn estimator whose `fit(columns, labels)` gives the same result for the same seed."""
        _not_written(type(self), "new_estimator", "an unfitted scikit-learn estimator")

    def build_inputs(self, rows: Sequence[Any]) -> Any:
        """The estimator's input for decoded rows, in their order.

        Returns:
            A float64 array of shape (len(rows), number of inputs), NaN for what is missing.
        """
        _not_written(type(self), "build_inputs", "a float64 array with one line per row")

    def predict(self, rows: Sequence[Any]) -> Sequence[Any]:
        """The answers to decoded rows, one `Prediction` per row and in the same order; never changes `rows`."""
        _not_written(type(self), "predict", "one `Prediction` per row, in the same order")

    def evaluate(self, predictions: Sequence[Any], labels: Sequence[Any]) -> Mapping[str, float]:
        """Metrics of `predictions` against the true `labels`: a name for each, `primary_metric` among them."""
        _not_written(type(self), "evaluate", "a mapping from the name of a metric to its value")

    @classmethod
    def example_from_csv_row(cls, line: Mapping[str, str]) -> Example:
        """The example in one line of a CSV file, whose cells are texts by column.

        By default the columns are those of `Features`, with the label in `label_name`; an empty cell is a missing
        value.

        Raises:
            ValueError: the line is no example; the message names the column.
        """
        return example_from_row(line, cls.Features, cls.Label, cls.label_name)

    # --- what follows from it ----------------------------------------------------------------------------------------

    def candidates(self) -> Sequence[Candidate]:
        """The kinds of estimator that `inflight train` compares, the simplest first.

        By default there is one, `new_estimator`.
        """
        return [Candidate("default", lambda params, seed: self.new_estimator(seed))]

    def fit(
        self,
        rows: Sequence[Any],
        labels: Sequence[Any],
        *,
        seed: int,
        candidate: Candidate | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Train on decoded rows and their labels; sets `estimator`.

        Args:
            candidate: what to make the estimator of, with `params` over its defaults; `new_estimator` by default.
        """
        estimator = self.new_estimator(seed) if candidate is None else candidate.estimator(params, seed)
        self.estimator = estimator.fit(self.build_inputs(rows), labels)

    def decode(self, raw: bytes | Raw) -> Any:
        """The row that a request's features hold.

        Raises:
            InvalidFeatures: they do not fit `Features`; the message names the field.
        """
        try:
            return self._decode.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidFeatures(explain(error, raw, self.Features, self.name)) from error

    @classmethod
    def example_requests(cls, data_dir: Path | None = None) -> Iterator[dict[str, Any]]:
        """The features of each row of the dataset, as a producer writes them; labels are left out."""
        return (example.features for example in cls.examples(data_dir))

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """The JSON Schema of a request's features."""
        return msgspec.json.schema(cls.Features)


def _not_written(cls: type, method: str, answer: str) -> NoReturn:
    raise MethodNotImplemented(f"{cls.__name__}.{method}() is not written yet: it must return {answer}")
