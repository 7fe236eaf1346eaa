"""`AdoptedModel`: the class of models that are declared, not written."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, Raw, Struct

from machine_learning_engineering.adoption.answers import Answers, compile_answers
from machine_learning_engineering.adoption.compiled import CompiledRoute
from machine_learning_engineering.adoption.features import features_struct, label_type
from machine_learning_engineering.adoption.frames import build_frame
from machine_learning_engineering.adoption.invented import invented_rows
from machine_learning_engineering.adoption.route import checked_route
from machine_learning_engineering.adoption.unusual import Usual
from machine_learning_engineering.adoption.writing import write_declaration
from machine_learning_engineering.core.csv_row import number_of_cell
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.declaration.problem import DeclarationProblem
from machine_learning_engineering.declaration.reading import DECLARATION_FILE, located, parse_declaration
from machine_learning_engineering.declaration.schema import Declaration
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.skops_file import BOOSTER_TYPES
from machine_learning_engineering.sdk import MLEModel

__all__ = ["AdoptedModel", "Origin", "adopted_class", "class_from_toml"]

_INVENTED = 40
UNKNOWN_FIELD = "unknown field"
"""Reason in `AdoptedModel.counts`; fields are counted together, because their names come from senders."""


class Origin(Struct, frozen=True):
    """Where a class finds its estimator and examples: a function for each."""

    estimator: Callable[[], Any]
    """Returns the fitted estimator, whose parameters a training uses again."""
    examples: Callable[[], Sequence[Example]]
    """Returns labelled rows."""


class AdoptedModel(MLEModel):
    """A fitted estimator behind the contract of every model: schema, answers, metrics and training from a declaration.

    `adopted_class` makes a subclass for each declaration. `inflight adopt` writes declarations.
    """

    ignores_unknown_fields = True
    trusted_types = BOOSTER_TYPES

    declared: ClassVar[Declaration]
    """The declaration."""
    answers: ClassVar[Answers]
    """The compiled expressions of `Prediction`."""
    origin: ClassVar[Origin | None] = None
    """Set if the class knows a version or a fitted object."""
    _usual: ClassVar[Usual]
    _defaults: ClassVar[Mapping[str, Any]] = {}
    _choices: ClassVar[Sequence[tuple[str, str, tuple[Any, ...]]]] = ()
    """Attribute, name and values of decimal numbers that are refused if they are others: a type can't say so."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self.on_unusual: Callable[[str, str, int], None] = lambda feature, reason, number: None
        """Called with what `counts` counts, by the thread that decodes or predicts."""
        self._compiled: CompiledRoute | None = None

    def opened(self) -> None:
        """Take the route without data frames where it answers exactly as they do, on this machine: see `route`."""
        features = self.declared.features
        rows = invented_rows(features, _INVENTED)
        self._compiled = checked_route(self.estimator, features, rows, sorted(self.answers.outputs)).compiled

    @classmethod
    def declared_by(cls, content: bytes) -> type[Model]:
        if content == cls.declaration:
            return cls
        return class_from_toml(content, origin=cls.origin)

    # --- requests -----------------------------------------------------------------------------------------------------

    def decode(self, raw: bytes | Raw) -> Any:
        """Decode the features of a request.

        Where an integer is wanted, 2.0 is 2. A declaration may ask for more: fields that it does not name are ignored
        and counted, numbers may be texts, and a default takes the place of null.

        Raises:
            InvalidFeatures: They do not fit `Features`. The message names the field.
        """
        try:
            row = self._decode.decode(raw)
        except msgspec.ValidationError:
            row = super().decode(self._tolerated(raw))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            row = super().decode(raw)
        if missing := {name: value for name, value in self._defaults.items() if getattr(row, name) is None}:
            row = msgspec.structs.replace(row, **missing)
        for field, name, choices in self._choices:
            if (value := getattr(row, field)) is not None and value not in choices:
                raise InvalidFeatures(f"feature `{name}` must be one of {', '.join(f'{one:g}' for one in choices)}")
        return row

    def _tolerated(self, raw: bytes | Raw) -> bytes | Raw:
        """The features without what the declaration tolerates; the same text where it tolerates nothing in it."""
        try:
            found = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return raw
        if not isinstance(found, dict):
            return raw
        known = self.Features.__struct_encode_fields__
        changed = False
        if self.ignores_unknown_fields and (unknown := found.keys() - known):
            for name in unknown:
                del found[name]
            self._count({("", UNKNOWN_FIELD): len(unknown)})
            changed = True
        for name in self.numbers_as_text & found.keys():
            if isinstance(cell := found[name], str) and (number := number_of_cell(cell.strip())) is not None:
                found[name] = number
                changed = True
        return msgspec.json.encode(found) if changed else raw

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Return the JSON Schema of a request's features."""
        schema = super().schema()
        for definition in (schema, *schema.get("$defs", {}).values()):
            if cls.ignores_unknown_fields:
                definition.pop("additionalProperties", None)
            for name in cls.numbers_as_text & definition.get("properties", {}).keys():
                definition["properties"][name]["x-numbers-as-text"] = True
            for _, name, choices in cls._choices:
                if name in definition.get("properties", {}):
                    definition["properties"][name]["x-choices"] = list(choices)
        return schema

    # --- predictions --------------------------------------------------------------------------------------------------

    def build_inputs(self, rows: Sequence[Any]) -> Any:
        """Build what the estimator was fitted on: a data frame, an array, or one column, with a row per request."""
        return self.inputs_of(build_frame(rows, self.declared.features))

    def inputs_of(self, frame: Any) -> Any:
        """The rows of a data frame in the form that the estimator was fitted on."""
        kind = self.declared.model.inputs
        if kind == "frame":
            return frame
        return frame.iloc[:, 0].to_numpy() if kind == "column" else frame.to_numpy()

    def predict(self, rows: Sequence[Any]) -> Sequence[Any]:
        if not rows:
            return []
        if (compiled := self._compiled) is None:
            columns = self.answers.compute(self.estimator, self.build_inputs(rows), len(rows))
        else:
            columns = self.answers.compute(compiled.estimator, compiled.inputs(rows), len(rows))
        if self._usual and (found := self._usual.count(rows)):
            self._count(found)
        return list(map(self.Prediction, *columns))

    def evaluate(self, predictions: Sequence[Any], labels: Sequence[Any]) -> Mapping[str, float]:
        return self.answers.evaluate(predictions, labels)

    def row_loss(self, prediction: Any, label: Any) -> float:
        return self.answers.row_loss(prediction, label)

    def counts(self) -> dict[tuple[str, str], int]:
        """Values that were accepted although they are unusual: their number by feature and reason.

        Reasons are ``outside the sample's range``, ``not a known value``, and ``unknown field`` of no feature.
        """
        with self._lock:
            return dict(self._counts)

    def _count(self, found: Mapping[tuple[str, str], int]) -> None:
        with self._lock:
            self._counts.update(found)
        for (feature, reason), number in found.items():
            self.on_unusual(feature, reason, number)

    # --- training -----------------------------------------------------------------------------------------------------

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        """Iterate over the labelled rows that the version keeps; `inflight train -ds FILE` takes others.

        Raises:
            ValueError: There are none. The message names the fix.
        """
        found = [] if cls.origin is None else list(cls.origin.examples())
        if not found:
            raise ValueError(
                f"model `{cls.name}` was adopted without labelled rows: name a file of them, such as "
                f"inflight train {cls.name} -ds FILE.csv with the label in the column `{cls.label_name}`"
            )
        return iter(found)

    @classmethod
    def example_from_csv_row(cls, line: Mapping[str, str]) -> Example:
        """Convert a CSV row to an example. Columns that are no features are ignored."""
        known = {*cls.Features.__struct_encode_fields__, cls.label_name, "group"}
        return super().example_from_csv_row({name: cell for name, cell in line.items() if name in known})

    def new_estimator(self, seed: int) -> Any:
        """Return an unfitted estimator with the parameters of the adopted one.

        The seed replaces each `random_state` that is None; others stay as they are.
        """
        from sklearn.base import clone

        fitted = self.estimator if self.estimator is not None else self._fitted()
        estimator = clone(fitted)
        parameters = estimator.get_params(deep=True)
        seeds = {
            name: seed
            for name, value in parameters.items()
            if name.rpartition("__")[2] == "random_state" and not isinstance(value, int)
        }
        return estimator.set_params(**seeds) if seeds else estimator

    def _fitted(self) -> Any:
        if self.origin is None:
            raise RegistryError(f"model `{self.name}` knows no fitted version whose pipeline it could fit again")
        return self.origin.estimator()


def adopted_class(
    declaration: Declaration, content: bytes = b"", *, origin: Origin | None = None
) -> type[AdoptedModel]:
    """Make the class of a declaration.

    Args:
        declaration: The declaration.
        content: Its TOML text; written anew by default.
        origin: Where the class finds a fitted estimator and examples.

    Raises:
        DeclarationProblem: An expression or a name in it can't be used.
    """
    model, source = declaration.model, declaration.source
    answers = compile_answers(model)
    if model.primary_metric and model.primary_metric not in answers.measure.metrics:
        known = ", ".join(answers.measure.metrics)
        raise DeclarationProblem(("model", "primary_metric"), f"there is no such metric: there are {known}")
    title = "".join(part.capitalize() for part in model.name.replace("_", "-").split("-"))
    features = features_struct(f"{title}Features", declaration.features)
    fields = {field.encode_name: field.name for field in msgspec.structs.fields(features)}
    defaults = {
        fields[name]: float(one.default) if one.type == "float" else one.default
        for name, one in declaration.features.items()
        if one.default is not UNSET
    }
    choices = [
        (fields[name], name, one.known)
        for name, one in declaration.features.items()
        if one.type == "float" and one.known and one.others == "refuse"
    ]
    attributes: dict[str, Any] = {
        "__module__": __name__,
        # Found by its base in another process, which makes the class again.
        "__qualname__": AdoptedModel.__qualname__,
        "__doc__": f"The adopted model `{model.name}`.",
        "name": model.name,
        "Features": features,
        "Prediction": answers.struct(f"{title}Prediction"),
        "Label": label_type(declaration),
        "label_name": model.label,
        "prediction_name": model.prediction_name,
        "primary_metric": model.primary_metric or answers.measure.metric,
        "redacted_features": dict(model.redact),
        "feature_names_in": tuple(declaration.features),
        "feature_paths": {name: one.from_ for name, one in declaration.features.items() if one.from_},
        "ignores_unknown_fields": source is None or source.unknown_fields == "ignore",
        "numbers_as_text": frozenset(name for name, one in declaration.features.items() if one.numbers_as_text),
        "declaration": content or write_declaration(declaration).encode(),
        "declared": declaration,
        "answers": answers,
        "origin": origin,
        "_usual": Usual(declaration.features),
        "_defaults": defaults,
        "_choices": choices,
    }
    return type(title, (AdoptedModel,), attributes)


def class_from_toml(
    content: bytes, name: str = DECLARATION_FILE, *, origin: Origin | None = None
) -> type[AdoptedModel]:
    """Make the class of a declaration's text.

    Args:
        content: TOML text.
        name: Name of the file, for messages.
        origin: See `adopted_class`.

    Raises:
        InvalidDeclaration: It can't be used. The message names the line, the field and the fix.
    """
    made = _made(content, name)
    identity = {name: getattr(made, name) for name in ("__module__", "__qualname__", "__doc__")}
    return made if origin is None else type(made.__name__, (made,), identity | {"origin": origin})


@lru_cache(maxsize=64)
def _made(content: bytes, name: str) -> type[AdoptedModel]:
    declaration = parse_declaration(content, name)
    try:
        return adopted_class(declaration, content)
    except DeclarationProblem as problem:
        raise located(problem, content, name) from problem
