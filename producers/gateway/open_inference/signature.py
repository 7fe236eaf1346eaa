"""What a model takes and gives, as tensors: made from the JSON Schemas that the registry keeps. Pure."""

from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from producers.gateway.catalog import ServedModel
from producers.gateway.examples import resolve
from producers.gateway.open_inference.tensors import Datatype, InputTensor, InvalidTensor, OutputTensor, columns, rows

FEATURES = "features"
"""An input of JSON objects, one for each row: for any model, and the only way for features that are no scalars."""
PREDICTION = "prediction"
"""An output of JSON: the whole prediction of each row."""
_NULL = Raw(b"null")
_DATATYPES: dict[str, Datatype] = {"boolean": "BOOL", "integer": "INT64", "number": "FP64", "string": "BYTES"}


class Field(NamedTuple):
    """A field of a schema. `datatype` is None if it is no scalar."""

    name: str
    datatype: Datatype | None
    required: bool
    is_array: bool


def fields(schema: dict[str, Any]) -> list[Field]:
    """The fields of an object's schema; none if it is of something else."""
    found = resolve(schema, schema)
    required = set(found.get("required", ()))
    described = []
    for name, field in found.get("properties", {}).items():
        kinds = _kinds(field, schema) - {"null"}
        # A number may be an integer in JSON.
        kinds = {"number"} if kinds == {"number", "integer"} else kinds
        kind = next(iter(kinds)) if len(kinds) == 1 else ""
        described.append(Field(name, _DATATYPES.get(kind), name in required, kind == "array"))
    return described


def _kinds(schema: dict[str, Any], root: dict[str, Any]) -> set[str]:
    schema = resolve(schema, root)
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        return set[str]().union(*(_kinds(one, root) for one in alternatives))
    if kind := schema.get("type"):
        return {kind} if isinstance(kind, str) else set(kind)
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return {_kind_of(value) for value in values}


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return kinds.get(type(value), "object")


def metadata(model: ServedModel) -> dict[str, Any]:
    """The metadata of a model: its served version, and its tensors. `-1` stands for the number of rows."""
    features = fields(model.features_schema)
    if features and all(one.datatype for one in features):
        inputs = [
            _described(one.name, one.datatype) | ({} if one.required else {"parameters": {"optional": True}})
            for one in features
        ]
    else:
        inputs = [_described(FEATURES, "BYTES")]
    outputs = [_described(name, datatype) for name, datatype in _outputs(model).items()]
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": "inflight",
        "inputs": inputs,
        "outputs": outputs,
    }


def _described(name: str, datatype: str | None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1]}


def _outputs(model: ServedModel) -> dict[str, Datatype]:
    """Name and type of each output; what is no scalar is JSON."""
    found = {one.name: one.datatype or "BYTES" for one in fields(model.prediction_schema)}
    return found if PREDICTION in found else {**found, PREDICTION: "BYTES"}


def output_names(model: ServedModel) -> list[str]:
    """The outputs that a request may ask for."""
    return list(_outputs(model))


def rows_of(model: ServedModel, inputs: list[InputTensor], binary: bytes) -> list[Raw]:
    """The rows of a request: each an object of features. Whether they fit the model is the worker's decision.

    Raises:
        InvalidTensor: a tensor can't be read.
    """
    known = fields(model.features_schema)
    names = [*(one.name for one in known), FEATURES]
    inputs = [msgspec.structs.replace(one, name=spelled(one.name, names) or one.name) for one in inputs]
    found = columns(inputs, binary, frozenset(one.name for one in known if one.is_array))
    if not found:
        raise InvalidTensor("inputs: send a tensor for each feature, or one named `features` of JSON objects")
    if list(found) != [FEATURES] or any(one.name == FEATURES for one in known):
        return rows(found)
    if inputs[0].datatype != "BYTES":
        raise InvalidTensor("input `features`: must be of BYTES: a JSON object for each row")
    return [_object(number, text) for number, text in enumerate(found[FEATURES])]


def spelled(name: str, known: list[str]) -> str | None:
    """A name as the model spells it; None if it has none such. Some clients know upper case only."""
    if name in known:
        return name
    same = {one for one in known if one.casefold() == name.casefold()}
    return same.pop() if len(same) == 1 else None


def _object(number: int, text: Any) -> Raw:
    try:
        row = msgspec.json.decode(text or "", type=Raw)
    except (msgspec.DecodeError, RecursionError):
        row = Raw(b"")
    if not bytes(row).startswith(b"{"):
        raise InvalidTensor(f"input `features`: value {number} is no JSON object")
    return row


def predictions(model: ServedModel, found: list[Raw], wanted: list[str]) -> list[OutputTensor]:
    """The outputs of a response.

    Args:
        model: as it was served when the request came.
        found: the prediction of each row.
        wanted: names of outputs, of those that `output_names` has.
    """
    own = {one.name for one in fields(model.prediction_schema)}
    types = _outputs(model)
    members = _members(found)
    tensors = []
    for name in wanted:
        if name in own and members is not None:
            tensors.append(_typed(name, types[name], [one.get(name, _NULL) for one in members]))
        else:
            tensors.append(OutputTensor(name, "BYTES", [bytes(one).decode() for one in found]))
    return tensors


def _members(found: list[Raw]) -> list[dict[str, Raw]] | None:
    """The fields of each prediction; None if one is no object."""
    try:
        return [msgspec.json.decode(one, type=dict[str, Raw]) for one in found]
    except msgspec.ValidationError:
        return None


def _typed(name: str, datatype: Datatype, texts: list[Raw]) -> OutputTensor:
    """A tensor of this type if the values are of it, else of JSON: no tensor has a null, except as NaN."""
    values = [msgspec.json.decode(one) for one in texts]
    kinds = {_kind_of(one) for one in values}
    if datatype == "FP64" and kinds <= {"number", "integer", "null"} and all(map(_fits, values)):
        return OutputTensor(name, "FP64", [float("nan") if one is None else float(one) for one in values])
    if datatype != "FP64" and {_DATATYPES.get(one) for one in kinds} == {datatype} and all(map(_fits, values)):
        return OutputTensor(name, datatype, values)
    return OutputTensor(name, "BYTES", [bytes(one).decode() for one in texts])


def _fits(value: Any) -> bool:
    """Whether a number has 64 bits."""
    return not isinstance(value, int) or -(2**63) <= value < 2**63
