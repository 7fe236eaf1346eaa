"""Labels of a pandas Index in a pickle, as a list: ``ColumnTransformer`` gets it from ``frame.columns``.

From pandas 3 on, the labels are an array of Arrow's. Its buffers are read here, without pandas and Arrow.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from machine_learning_engineering.adoption.opening.refusal import Malformed, NotAllowed

_OFFSETS = {"large_string": np.int64, "string": np.int32}


class Texts:
    """Stands for an array of texts whose buffers follow."""


def index(cls: Any, parts: Any) -> list[Any]:
    """``pandas.Index`` as the list of its labels, which selects the same columns."""
    labels = parts.get("data") if type(parts) is dict else None
    if isinstance(labels, np.ndarray) and labels.ndim == 1:
        labels = labels.tolist()
    if type(labels) is not list:
        raise NotAllowed("a pandas Index of neither texts nor numbers; select columns by a list: list(frame.columns)")
    return labels


def texts(state: Any) -> list[str]:
    """The texts of an array from its attributes."""
    found = state.get("_pa_array") if type(state) is dict else None
    if type(found) is not list:
        raise Malformed("an array of texts has an unknown state")
    return found


def type_of(name: Any) -> str:
    """``pyarrow.lib.type_for_alias`` for texts."""
    if type(name) is not str or name not in _OFFSETS:
        raise NotAllowed(f"an array of Arrow's of {name!r:.60}")
    return name


def buffer(content: Any) -> bytes:
    """``pyarrow.lib.py_buffer``."""
    if not isinstance(content, bytes | bytearray):
        raise NotAllowed("a buffer of Arrow's that is not of bytes")
    return bytes(content)


def arrow_array(parts: Any) -> list[str]:
    """``pyarrow.lib._restore_array`` for texts, none of them missing."""
    match parts:
        case (str() as kind, int() as length, 0, 0, [None, bytes() as offsets, data], *_) if length >= 0:
            bounds = np.frombuffer(offsets, dtype=_OFFSETS[type_of(kind)])[: length + 1].tolist()
            content = buffer(data or b"")
            if len(bounds) == length + 1 and bounds == sorted(bounds) and bounds[0] >= 0 and bounds[-1] <= len(content):
                pairs = pairwise(bounds)
                return [content[start:end].decode(errors="replace") for start, end in pairs]
    raise Malformed("an array of Arrow's has unknown parts")


def chunked(chunks: Any, kind: Any = None) -> list[str]:
    """``pyarrow.lib.chunked_array`` of such arrays."""
    if type(chunks) is not list or not all(type(one) is list for one in chunks):
        raise Malformed("an array of Arrow's has unknown parts")
    return [text for one in chunks for text in one]


def string_dtype(*arguments: Any) -> None:
    """``pandas.StringDtype``, which a list does not have."""
