"""Tensors of the Open Inference Protocol, as JSON and in its binary extension. Pure.

Sources: the protocol's "HTTP/REST" part, and the extension "binary tensor data" of Triton.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

_INTEGERS = {"INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q"}
_INTEGERS |= {f"U{name}": code.upper() for name, code in _INTEGERS.items()}
_FLOATS = {"FP16": "e", "FP32": "f", "FP64": "d"}
# Of the module `struct`; all are little-endian.
_CODES = {"BOOL": "?", **_INTEGERS, **_FLOATS}
DATATYPES = (*_CODES, "BYTES")
# Digits that tell each value of the type from its neighbours.
_DIGITS = {"FP16": 5, "FP32": 9}
_MAX_DIMENSIONS = 8
Datatype = Literal["BOOL", "INT64", "FP64", "BYTES"]
"""Of the tensors that are written."""


class InvalidTensor(ValueError):
    """A tensor can't be read. The message names it and the fix, and quotes no value."""


class InputTensor(Struct, frozen=True):
    """A tensor of a request. Its values are in `data`, or in the binary part if `binary_data_size` says so."""

    name: str
    datatype: str
    shape: list[int]
    data: Raw | UnsetType = UNSET
    parameters: dict[str, Any] = {}


class OutputTensor(NamedTuple):
    """A tensor of a response, of one dimension: a value for each row."""

    name: str
    datatype: Datatype
    values: list[Any]


def columns(tensors: Sequence[InputTensor], binary: bytes, lists: frozenset[str]) -> dict[str, list[Any]]:
    """The values of each tensor, one for each row; None where there is none: null and NaN.

    Args:
        tensors: of a request.
        binary: what follows the JSON part: the values of the binary tensors, one after the other.
        lists: names of features that are arrays; others of the shape ``[n, 1]`` are scalars.

    Raises:
        InvalidTensor: one can't be read, or they differ in their number of rows.
    """
    found: dict[str, list[Any]] = {}
    offset = 0
    for tensor in tensors:
        if tensor.name in found:
            raise InvalidTensor(f"{_named(tensor)}: is there twice")
        rows, width = _shape(tensor)
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            values = _from_json(tensor, rows * width)
        else:
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - offset:
                raise InvalidTensor(
                    f"{_named(tensor)}: `binary_data_size` is more than follows the JSON part: check the header "
                    "Inference-Header-Content-Length"
                )
            values = _from_binary(tensor, binary[offset : offset + size], rows * width)
            offset += size
        if width > 1 or (tensor.name in lists and len(tensor.shape) > 1):
            values = [values[start : start + width] for start in range(0, rows * width, width)]
        found[tensor.name] = values
        first = next(iter(found.values()))
        if len(values) != len(first):
            raise InvalidTensor(f"{_named(tensor)}: has {rows} rows, and the first tensor {len(first)}")
    if offset != len(binary):
        raise InvalidTensor("inputs: the binary part is longer than the `binary_data_size` of all tensors")
    return found


def rows(found: dict[str, list[Any]]) -> list[Raw]:
    """Each row as an object of features. A value that is None is left out: the feature is missing."""
    names = list(found)
    encode = msgspec.json.Encoder().encode
    return [
        Raw(encode({name: value for name, value in zip(names, values, strict=True) if value is not None}))
        for values in zip(*found.values(), strict=True)
    ]


def encoded(tensors: Sequence[OutputTensor], binary: frozenset[str]) -> tuple[list[dict[str, Any]], bytes]:
    """Tensors as JSON values, and the binary part that follows.

    Args:
        tensors: of a response.
        binary: names of those whose values go into the binary part.
    """
    heads: list[dict[str, Any]] = []
    parts = []
    for tensor in tensors:
        head: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": [len(tensor.values)],
        }
        if tensor.name in binary:
            part = _to_binary(tensor)
            head["parameters"] = {"binary_data_size": len(part)}
            parts.append(part)
        else:
            head["data"] = tensor.values
        heads.append(head)
    return heads, b"".join(parts)


def _named(tensor: InputTensor) -> str:
    # The name is the client's: any text.
    name = tensor.name if tensor.name.isidentifier() and len(tensor.name) <= 200 else "?"
    return f"input `{name}`"


def _shape(tensor: InputTensor) -> tuple[int, int]:
    """Rows, and values of each row."""
    shape = tensor.shape
    if tensor.datatype not in DATATYPES:
        raise InvalidTensor(f"{_named(tensor)}: `datatype` must be one of {', '.join(DATATYPES)}")
    if not 0 < len(shape) <= _MAX_DIMENSIONS or any(not 0 < one < 2**31 for one in shape):
        raise InvalidTensor(f"{_named(tensor)}: `shape` must be [n] or [n, 1], with n rows")
    width = math.prod(shape[1:])
    if width > 1 and len(shape) > 2:
        raise InvalidTensor(f"{_named(tensor)}: `shape` has more than two dimensions")
    return shape[0], width


def _from_json(tensor: InputTensor, count: int) -> list[Any]:
    if tensor.data is UNSET:
        kinds = ", ".join(name for name in tensor.parameters if name.startswith("shared_memory"))
        reason = "shared memory is not supported: send" if kinds else "has no"
        raise InvalidTensor(f"{_named(tensor)}: {reason} `data`, or `binary_data_size` bytes behind the JSON part")
    values = list(_flat(msgspec.json.decode(tensor.data)))
    _require_count(tensor, len(values), count)
    if not all(one is None or _is(one, tensor.datatype) for one in values):
        raise InvalidTensor(f"{_named(tensor)}: a value in `data` is no {tensor.datatype}")
    return values


def _flat(values: Any, depth: int = 0) -> Iterator[Any]:
    """The values of nested arrays in row-major order."""
    if isinstance(values, list) and depth <= _MAX_DIMENSIONS:
        for one in values:
            yield from _flat(one, depth + 1)
    else:
        yield values


def _is(value: Any, datatype: str) -> bool:
    if datatype == "BYTES":
        return isinstance(value, str)
    if datatype == "BOOL":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int if datatype in _INTEGERS else int | float):
        return False
    return not isinstance(value, int) or -(2**63) <= value < 2**64


def _from_binary(tensor: InputTensor, part: bytes, count: int) -> list[Any]:
    if tensor.datatype == "BYTES":
        texts = list(_texts(tensor, part))
        _require_count(tensor, len(texts), count)
        return texts
    code = _CODES[tensor.datatype]
    if len(part) != count * struct.calcsize(f"<{code}"):
        raise InvalidTensor(f"{_named(tensor)}: `binary_data_size` does not fit its shape and datatype")
    values: list[Any] = list(struct.unpack(f"<{count}{code}", part))
    if tensor.datatype in _FLOATS:
        return [_plain(tensor, one) for one in values]
    return values


def _texts(tensor: InputTensor, part: bytes) -> Iterator[str]:
    """Texts, each after its length in four bytes."""
    offset = 0
    while offset < len(part):
        length = int.from_bytes(part[offset : offset + 4], "little")
        offset += 4
        if offset + length > len(part):
            raise InvalidTensor(f"{_named(tensor)}: the length of a value is more than `binary_data_size` leaves")
        try:
            yield part[offset : offset + length].decode()
        except UnicodeDecodeError:
            raise InvalidTensor(f"{_named(tensor)}: a value is not UTF-8") from None
        offset += length


def _plain(tensor: InputTensor, value: float) -> float | None:
    """A binary number as JSON has it: 0.1 in 32 bits is the same feature as 0.1 in a text."""
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise InvalidTensor(f"{_named(tensor)}: a value is infinite")
    most = _DIGITS.get(tensor.datatype)
    if most is None:
        return value
    code = "<" + _CODES[tensor.datatype]
    for digits in range(most - 3, most):
        short = float(f"{value:.{digits}g}")
        try:
            if struct.unpack(code, struct.pack(code, short))[0] == value:
                return short
        except OverflowError:
            continue
    return float(f"{value:.{most}g}")


def _to_binary(tensor: OutputTensor) -> bytes:
    if tensor.datatype == "BYTES":
        texts = [one.encode() for one in tensor.values]
        return b"".join(len(one).to_bytes(4, "little") + one for one in texts)
    return struct.pack(f"<{len(tensor.values)}{_CODES[tensor.datatype]}", *tensor.values)


def _require_count(tensor: InputTensor, found: int, wanted: int) -> None:
    if found != wanted:
        raise InvalidTensor(f"{_named(tensor)}: has {found} values, and its shape says {wanted}")
