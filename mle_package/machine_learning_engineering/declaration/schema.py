"""Schema of a declaration, the TOML file of an adopted model: `model`, `source`, `features` and `result`."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

__all__ = ["Declaration", "FeatureDeclaration", "ModelDeclaration", "ResultDeclaration", "SourceDeclaration"]

Scalar = bool | int | float | str


class ModelDeclaration(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The model: its name, what it answers, and what it is measured by."""

    name: str
    """Name that requests use: lower-case letters, digits, `-` and `_`."""
    answer: dict[str, str]
    """Expression of each field of the prediction, such as ``{"probability": "predict_proba[:, 1]"}``."""
    label: str = "label"
    """Column of the label in files of examples."""
    classes: tuple[Scalar, ...] = ()
    """Labels that a classifier knows, in its own order; none if a number is predicted."""
    inputs: Literal["frame", "array", "column"] = "frame"
    """What the estimator was fitted on: a data frame, an array without names, or one column, such as texts."""
    primary_metric: str = ""
    """Metric that decides between two versions; by default one that fits the kind of model."""
    prediction_name: str = "prediction"
    """See `core.model.Model.prediction_name`."""
    file: str = ""
    """The fitted model, relative to the declaration; without it, the version in the registry."""
    sample: str = ""
    """Labelled rows, relative to the declaration."""
    redact: dict[str, Literal["keep", "hash", "drop"]] = {}
    """See `core.model.Model.redacted_features`."""


class SourceDeclaration(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An existing topic whose records are requests."""

    topic: str
    """Full name of the topic."""
    format: Literal["json", "avro", "protobuf", "json-schema"] = "json"
    """How values are encoded; the last three are framed by a schema registry."""
    registry: str = ""
    """URL of the schema registry."""
    request_id: str = "{topic}-{partition}-{offset}"
    """``{topic}-{partition}-{offset}``, ``key``, ``header:NAME``, or the path of a field, such as ``order.id``; paths
    joined by ``@``, such as ``order.id@ts``, where a record comes more than once."""
    requested_at: str = ""
    """Path of the event's time; by default the record's timestamp."""
    unknown_fields: Literal["ignore", "refuse"] = "ignore"
    """What happens to records with fields that the declaration does not name. Ignored ones are counted."""
    start: Literal["latest", "earliest"] = "latest"
    """Where a new consumer group begins."""


class FeatureDeclaration(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A feature: where it is found, its type, and what is refused."""

    type: Literal["float", "int", "bool", "text"]
    from_: str = field(name="from", default="")
    """Path in the source's event, such as ``order.amount``; by default the name of the feature."""
    missing: Literal["refuse", "ok"] = "refuse"
    """Whether null and an absent field are accepted."""
    default: Scalar | UnsetType = UNSET
    """Takes the place of a missing value."""
    constant: Scalar | UnsetType = UNSET
    """Value for every request; the event is not asked."""
    ge: float | UnsetType = UNSET
    gt: float | UnsetType = UNSET
    le: float | UnsetType = UNSET
    lt: float | UnsetType = UNSET
    """Limits. A number outside of them is refused."""
    range: tuple[float, float] | UnsetType = UNSET
    """Smallest and greatest value of the sample. A number outside of it is accepted and counted."""
    known: tuple[Scalar, ...] = ()
    """Values that the model knows."""
    others: Literal["count", "refuse"] = "count"
    """What happens to a value that is not in `known`."""
    dtype: str = ""
    """Data type of the column that the pipeline gets, as pandas names it, such as ``float32``, ``category``,
    ``datetime64[ns]``, or ``object[None]`` for objects whose missing values are None; by default the one of `type`. For
    ``category``, `known` are the categories in order."""
    numbers_as_text: bool = False
    """Whether ``"12.50"`` is accepted as a number."""
    example: Scalar | UnsetType = UNSET
    """A usual value, for documents and forms."""


class ResultDeclaration(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where results go, and what is in them."""

    topic: str = ""
    """Full name of a topic of its own, with the key, partition and headers of the source's record; by default the
    deployment's topic of results."""
    form: Literal["result", "enriched"] = "result"
    """``result``: the event `prediction.completed.v1`; ``enriched``: the source's event with the prediction in it."""
    field: str = "prediction"
    """Field of an enriched event that holds the result: the whole event, so that failures are there too."""
    include: tuple[str, ...] = ()
    """Paths of fields of the source's event that are repeated in the result."""
    source_position: bool = True
    """Whether the result says topic, partition and offset of its source."""


class Declaration(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model without a class, as its TOML file declares it."""

    model: ModelDeclaration
    features: dict[str, FeatureDeclaration]
    source: SourceDeclaration | None = None
    result: ResultDeclaration = ResultDeclaration()
