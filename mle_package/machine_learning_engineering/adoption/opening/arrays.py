"""Arrays and their data types from a pickle, by NumPy's public constructors.

NumPy's own way back from a pickle believes what a file says of offsets and flags of a data type, and a wrong one makes
it take numbers for the addresses of objects.
"""

import math
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from machine_learning_engineering.adoption.opening.names import Name
from machine_learning_engineering.adoption.opening.refusal import Malformed, NotAllowed

DTYPE = Name("numpy", "dtype")
WRAPPER = Name("joblib.numpy_pickle", "NumpyArrayWrapper")
_CODE = re.compile(r"[<>|=]?(b1|[iu][1248]|f(2|4|8|16)|c(8|16|32)|[SUV][0-9]{1,9}|O8?|[Mm]8(\[[0-9a-zA-Z]{1,12}\])?)")
_UNIT = re.compile(r"generic|Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as")
_ALIGNED = 0x80
_MAX_DIMENSIONS = 32


def make_dtype(code: Any, align: Any = False, copy: Any = True) -> np.dtype[Any]:
    """``numpy.dtype(code)``, always a new object."""
    if type(code) is not str or not _CODE.fullmatch(code):
        raise NotAllowed(f"a numpy.dtype of {code!r:.60}")
    return np.dtype(code.removesuffix("8") if code[-2:] == "O8" else code, copy=True)


def is_dtype(made: Any) -> bool:
    """Whether `fill_dtype` takes it."""
    return isinstance(made, np.dtype)


def fill_dtype(made: np.dtype[Any], state: Any) -> np.dtype[Any]:
    """The data type that a pickle describes; the same one where nothing is new."""
    if type(state) is not tuple or not 8 <= len(state) <= 9 or state[0] not in (3, 4):
        raise Malformed("a numpy.dtype has an unknown state")
    _, order, base, names, fields, itemsize, _, flags = state[:8]
    if len(state) == 9 and state[8] is not None:
        new = _of_time(made, state[8])
    elif base is not None:
        if type(base) is not tuple or len(base) != 2 or not is_dtype(base[0]):
            raise Malformed("a numpy.dtype has an unknown base")
        new = np.dtype((base[0], _shape(base[1])))
    elif names is not None:
        new = _of_fields(names, fields, itemsize, bool(flags & _ALIGNED) if type(flags) is int else False)
    elif order in ("<", ">"):
        new = made.newbyteorder(order)
    elif order in ("|", "="):
        new = made
    else:
        raise Malformed("a numpy.dtype has an unknown byte order")
    return made if new == made and new.isalignedstruct == made.isalignedstruct else new


def _of_time(made: np.dtype[Any], metadata: Any) -> np.dtype[Any]:
    match metadata:
        case (extra, (str() | bytes() as unit, int() as count, *_)) if not extra and made.kind in "mM":
            text = unit.decode("ascii", "replace") if isinstance(unit, bytes) else unit
            if _UNIT.fullmatch(text) and 0 < count < 10**6:
                return np.dtype(f"{made.kind}8" if text == "generic" else f"{made.kind}8[{count}{text}]")
    raise Malformed("a numpy.dtype has unknown metadata")


def _of_fields(names: Any, fields: Any, itemsize: Any, aligned: bool) -> np.dtype[Any]:
    try:
        found = [fields[name] for name in names]
        formats, offsets = [one[0] for one in found], [int(one[1]) for one in found]
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise Malformed("a numpy.dtype has unknown fields") from error
    if not all(map(is_dtype, formats)) or any(one.hasobject for one in formats) or type(itemsize) is not int:
        raise NotAllowed("a numpy.dtype with fields of objects")
    if any(offset < 0 or offset + one.itemsize > itemsize for one, offset in zip(formats, offsets, strict=True)):
        raise Malformed("a numpy.dtype has a field outside of it")
    spec = {"names": list(names), "formats": formats, "offsets": offsets, "itemsize": itemsize}
    return np.dtype(spec, align=aligned)  # type: ignore[call-overload,no-any-return]


def fill_array(state: Any) -> NDArray[Any]:
    """The array that a pickle describes by (version, shape, data type, whether in Fortran's order, data)."""
    if type(state) is not tuple or len(state) not in (4, 5):
        raise Malformed("an array has an unknown state")
    shape, dtype, fortran, data = state[-4:]
    return build(data, dtype, shape, "F" if fortran else "C")


def build(data: Any, dtype: Any, shape: Any, order: Any = "C") -> NDArray[Any]:
    """An array of its own from bytes, or from a list of objects."""
    if not is_dtype(dtype) or order not in ("C", "F"):
        raise Malformed("an array has no data type")
    shape = _shape(shape)
    size = math.prod(shape)
    if dtype.hasobject:
        if dtype != np.dtype(object) or type(data) is not list or len(data) != size:
            raise Malformed("an array of objects has another number of them than it says")
        objects = np.empty(size, dtype=object)
        objects[:] = np.fromiter(data, dtype=object, count=size)
        return objects.reshape(shape, order=order)
    if isinstance(data, str):
        data = data.encode("latin1")
    content = memoryview(data) if isinstance(data, bytes | bytearray) else None
    if content is None or content.nbytes != size * dtype.itemsize:
        raise Malformed("an array has another number of bytes than it says")
    if not size or not dtype.itemsize:
        return np.empty(shape if not size else (0,), dtype=dtype, order=order)
    flat = np.frombuffer(content, dtype=dtype)
    return flat.reshape(shape, order=order).copy(order="K")


def scalar(dtype: Any, data: Any) -> Any:
    """A NumPy number or text from its bytes."""
    if not is_dtype(dtype) or dtype.hasobject:
        raise NotAllowed("a NumPy scalar that holds an object")
    return build(data, dtype, ())[()] if dtype.itemsize else dtype.type()


class Wrapper:
    """What joblib writes before an array."""

    shape: tuple[int, ...] = ()
    order = "C"
    dtype: Any = None
    aligned = False

    def fill(self, state: Any) -> None:
        """Take the attributes of joblib's wrapper."""
        if type(state) is not dict:
            raise Malformed("an array of joblib's has an unknown state")
        if state.get("subclass") not in (None, np.ndarray):
            raise NotAllowed("an array of joblib's of a subclass of numpy.ndarray; convert it by numpy.asarray")
        self.shape, self.order, self.dtype = _shape(state.get("shape")), state.get("order", "C"), state.get("dtype")
        self.aligned = state.get("numpy_array_alignment_bytes") is not None
        if not is_dtype(self.dtype) or self.order not in ("C", "F"):
            raise Malformed("an array of joblib's has no data type")


def read(wrapper: Wrapper, file: BinaryIO, nested: Callable[[], Any]) -> Any:
    """The array behind a wrapper. An array of objects is a pickle of its own, which `nested` reads."""
    if wrapper.dtype.hasobject:
        return nested()
    if wrapper.aligned:
        file.read(file.read(1)[0])
    size = math.prod(wrapper.shape) * wrapper.dtype.itemsize
    data = file.read(size)
    if len(data) != size:
        raise Malformed("an array ends too early")
    found = build(data, wrapper.dtype, wrapper.shape, wrapper.order)
    return found if found.dtype.isnative else found.astype(found.dtype.newbyteorder("="))


def _shape(found: Any) -> tuple[int, ...]:
    shape = (found,) if isinstance(found, int) else found
    if type(shape) is not tuple or len(shape) > _MAX_DIMENSIONS:
        raise Malformed("an array has an unknown shape")
    if any(not isinstance(side, int | np.integer) or side < 0 for side in shape):
        raise Malformed("an array has an unknown shape")
    return tuple(int(side) for side in shape)
