"""The model contract: the methods that a data scientist writes, and that training, the registry and the worker call.

A subclass sets its name and the structs of its features and predictions, and implements the five methods that raise
`MethodNotImplemented` here. Nothing else is needed to train, save and serve it.
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
from machine_learning_engineering.core.json_values import with_integers
from machine_learning_engineering.core.row_loss import row_loss
from machine_learning_engineering.core.similarity import Similarity, similarity
from machine_learning_engineering.core.validation import InvalidFeatures, explain

__all__ = ["Model", "MethodNotImplemented", "RedactAction"]

RedactAction = Literal["keep", "hash", "drop"]
"""How the prediction log stores a feature: unchanged, as a keyed hash, or not at all."""


class MethodNotImplemented(NotImplementedError):
    """A method or attribute that the author of a model must provide is missing."""


class Model(ABC):
    """A model: the schema of its requests, its training and its predictions.

    `predict` is called from several threads at once. It must not modify its input or the model.
    """

    name: ClassVar[str]
    """Name that requests use: lower-case letters, digits, `-` and `_`, such as ``diamonds``."""
    Features: ClassVar[type[Struct]]
    """Schema of a request: a frozen struct with ``forbid_unknown_fields=True`` and constraints as `msgspec.Meta`."""
    Prediction: ClassVar[type[Struct]]
    """Schema of the `prediction` in a result: a frozen struct."""
    primary_metric: ClassVar[str]
    """Metric of `evaluate` that decides between two versions; greater is better."""
    trusted_types: ClassVar[frozenset[str]] = frozenset()
    """Types in the model's file that the registry trusts besides its own list, such as ``my_package.steps.Clip``."""
    dataset_sha256: ClassVar[str] = ""
    """Digest of the pinned file that `examples` reads, if there is one."""
    Label: ClassVar[Any] = Any
    """Type of a label, as msgspec decodes it from JSON, such as ``Annotated[float, Meta(gt=0)]``."""
    label_name: ClassVar[str] = "label"
    """Column of the label in files of examples, such as ``price``."""
    prediction_name: ClassVar[str] = "prediction"
    """What is predicted, in one word that is a part of a URL, such as ``value``: the gateway's route for developers is
    then ``/v1/diamonds/value``."""
    feature_names_in: ClassVar[tuple[str, ...]] = ()
    """Names of the columns that `build_inputs` returns, in order: for stored layers and plots of importance."""
    feature_paths: ClassVar[Mapping[str, str]] = {}
    """Path of a feature in a table, where it is not its name: ``{"amount": "order.amount"}``."""
    similar_by: ClassVar[tuple[str, ...]] = ()
    """Features that similar rows have in common, such as ``("cut", "color", "clarity")``. With `nearest`, training
    publishes its rows for the gateway's route ``/v1/diamonds/similar``; by default they stay private."""
    nearest: ClassVar[str] = ""
    """Feature by whose distance similar rows are ordered, such as ``carat``."""
    redacted_features: ClassVar[Mapping[str, RedactAction]] = {}
    """Features that the prediction log redacts: ``{"name": "hash", "ticket": "drop"}``; ``*`` matches every other
    feature. The settings may add rules, see `machine_learning_engineering.observability.redaction`."""

    declaration: ClassVar[bytes] = b""
    """The declaration that the class is made from, as TOML, which the registry keeps with a version; see `adoption`."""
    ignores_unknown_fields: ClassVar[bool] = False
    """Whether `decode` accepts fields that are not in `Features`."""
    numbers_as_text: ClassVar[frozenset[str]] = frozenset()
    """Numbers that `decode` also accepts as a text, such as ``"12.50"``."""

    version: str = "unversioned"
    """Version in the registry; "unversioned" until the model is saved or opened."""
    estimator: Any = None
    """Fitted scikit-learn estimator or pipeline, the state that the registry saves. None until fitted."""

    _decode: ClassVar[msgspec.json.Decoder[Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "Features" in cls.__dict__:
            cls._decode = msgspec.json.Decoder(cls.Features)

    def __init__(self) -> None:
        for attribute, meaning in (
            ("name", 'a string such as "diamonds"'),
            ("Features", "a frozen msgspec.Struct with forbid_unknown_fields=True"),
            ("Prediction", "a frozen msgspec.Struct"),
            ("primary_metric", 'a key of what `evaluate` returns, such as "r2"'),
        ):
            if not hasattr(self, attribute):
                raise MethodNotImplemented(f"{type(self).__name__}.{attribute} is not set: it must be {meaning}")
        # Now, rather than at the end of a training.
        self.similarity()

    # --- written by the author of a model -----------------------------------------------------------------------------

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        """Iterate over the labelled dataset, always in the same order.

        Args:
            data_dir: Folder of downloaded files; the settings' by default.
        """
        _raise_not_implemented(cls, "examples", "an iterator over `Example(features, label)`")

    def new_estimator(self, seed: int) -> Any:
        """Return an unfitted estimator; the seed must determine the result of its `fit(inputs, labels)`."""
        _raise_not_implemented(type(self), "new_estimator", "an unfitted scikit-learn estimator")

    def build_inputs(self, rows: Sequence[Any]) -> Any:
        """Build the estimator's input from decoded rows.

        Returns:
            What the estimator is fitted on, with one row per request: a float64 array of shape (len(rows), number of
            inputs) with NaN for missing values, a sparse matrix, or a pandas DataFrame for a pipeline that selects its
            columns by name. A frame needs its types set, `frame.astype(...)`: pandas would guess them from the rows,
            and a row alone would be answered otherwise than in a batch.
        """
        _raise_not_implemented(type(self), "build_inputs", "an array or a frame with one row per request")

    def predict(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Predict decoded rows.

        If it raises, the batch is halved and retried, so that only the rows that make it raise fail
        (`prediction_error`). A fault of the machine, such as a ConnectionError or a locked database, is no fault of a
        row: the same call is repeated for up to 30 s; then the worker exits, and the rows are scored again. Where a row
        is at fault, raise ValueError. It must return within `INFLIGHT_WORKER_STALL_TIMEOUT`, or the worker exits.

        Returns:
            One `Prediction` per row, in the same order.
        """
        _raise_not_implemented(type(self), "predict", "one `Prediction` per row, in the same order")

    def evaluate(self, predictions: Sequence[Any], labels: Sequence[Any]) -> Mapping[str, float]:
        """Compute metrics of predictions.

        Args:
            predictions: `Prediction` values.
            labels: True values in the same order, decoded as `Label`.

        Returns:
            Values by metric name, including `primary_metric`.
        """
        _raise_not_implemented(type(self), "evaluate", "a mapping from the name of a metric to its value")

    def row_loss(self, prediction: Any, label: Any) -> float:
        """Tell how wrong one prediction is: a rollout compares two versions by their means, request by request.

        By default, the distance of numbers; for classes, texts and truth values 0 if the prediction is right and 1 if
        not. What is compared is the field named `label_name`, or else the first of the label's type.

        Args:
            prediction: A `Prediction`.
            label: Its true value, decoded as `Label`.

        Returns:
            A finite number; smaller is better. Its mean should order two versions as `primary_metric` does.
        """
        return row_loss(prediction, label, self.Label, self.label_name)

    @classmethod
    def example_from_csv_row(cls, line: Mapping[str, str]) -> Example:
        """Convert a CSV row, with its cells by column name, to an example.

        By default, the columns are those of `Features`, with the label in `label_name`. An empty cell is a missing
        value.

        Raises:
            ValueError: The row is not an example. The message names the column.
        """
        return example_from_row(line, cls.Features, cls.Label, cls.label_name)

    def opened(self) -> None:  # noqa: B027 - a hook that most models do without
        """Prepare what a version predicts with. The registry calls it once `estimator` and `version` are set."""

    # --- derived from it ----------------------------------------------------------------------------------------------

    def candidates(self) -> Sequence[Candidate]:
        """Return the candidates that training compares, the simplest first; by default, `new_estimator` alone."""
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
        """Fit `estimator`.

        Args:
            rows: Decoded rows.
            labels: Their labels, in the same order.
            seed: Determines the result.
            candidate: Makes the estimator; `new_estimator` by default.
            params: Override the candidate's defaults.
        """
        estimator = self.new_estimator(seed) if candidate is None else candidate.estimator(params, seed)
        self.estimator = estimator.fit(self.build_inputs(rows), labels)

    def decode(self, raw: bytes | Raw) -> Any:
        """Decode the features of a request. Where an integer is wanted, 3.0 is 3, as JSON Schema says.

        Raises:
            InvalidFeatures: They do not fit `Features`. The message names the field.
        """
        try:
            try:
                return self._decode.decode(raw)
            except msgspec.ValidationError as error:
                if (whole := with_integers(raw, error)) is None:
                    raise
                return self._decode.decode(whole)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidFeatures(explain(error, raw, self.Features, self.name)) from error

    @classmethod
    def declared_by(cls, content: bytes) -> "type[Model]":
        """Return the class of a version that was saved with this declaration; a written class has one schema."""
        return cls

    @classmethod
    def similarity(cls) -> Similarity | None:
        """Return which rows are similar, by `similar_by` and `nearest`; None if the model declares neither.

        Raises:
            ValueError: The declaration does not fit `Features`.
        """
        return similarity(cls.__name__, cls.Features, cls.similar_by, cls.nearest)

    @classmethod
    def example_requests(cls, data_dir: Path | None = None) -> Iterator[dict[str, Any]]:
        """Iterate over the features of the dataset, as a producer sends them."""
        return (example.features for example in cls.examples(data_dir))

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Return the JSON Schema of a request's features."""
        return msgspec.json.schema(cls.Features)


def _raise_not_implemented(cls: type, method: str, expected: str) -> NoReturn:
    raise MethodNotImplemented(f"{cls.__name__}.{method}() is not written yet: it must return {expected}")
