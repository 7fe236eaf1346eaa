"""What a pickle may call, each under a guard that checks its arguments."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from machine_learning_engineering.adoption.opening import arrays, index_labels
from machine_learning_engineering.adoption.opening.names import CLASSES, Name
from machine_learning_engineering.adoption.opening.refusal import Malformed, NotAllowed

_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_FACTORIES: tuple[Any, ...] = (None, list, dict, int, float, str, set)


class Seeds:
    """Stands for the seeds of a generator, which has its state anyway."""


class EmptyArray:
    """An array whose data follows."""


class EmptyMasked:
    """A masked array whose data follows."""


class EmptyTree:
    """A tree of scikit-learn's neighbours whose data follows."""

    def __init__(self, cls: type) -> None:
        self.cls = cls


class EmptyPartial:
    """A partial function whose parts follow."""

    def __init__(self, function: Any) -> None:
        self.function = function


class EmptyMetric:
    """A distance whose parameters follow."""

    def __init__(self, cls: type) -> None:
        self.cls = cls


def _ordered_dict(items: Any = ()) -> OrderedDict[Any, Any]:
    return OrderedDict([_pair(item) for item in _list(items)])


def _default_dict(factory: Any = None, items: Any = ()) -> defaultdict[Any, Any]:
    if factory is _ordered_dict:
        factory = OrderedDict
    elif not any(factory is one for one in _FACTORIES):
        raise NotAllowed("a collections.defaultdict that calls something of its own")
    return defaultdict(factory, [_pair(item) for item in _list(items)])


def _set(items: Any = ()) -> set[Any]:
    return set(_list(items))


def _frozenset(items: Any = ()) -> frozenset[Any]:
    return frozenset(_list(items))


def _slice(*bounds: Any) -> slice:
    if not all(bound is None or type(bound) in (int, str) for bound in bounds):
        raise Malformed("a slice has unknown bounds")
    return slice(*bounds)


def _range(*bounds: Any) -> range:
    return range(*(_whole(bound) for bound in bounds))


def _complex(*parts: Any) -> complex:
    return complex(*(_float(part) for part in parts))


def _bytearray(content: Any = b"", encoding: Any = "latin-1") -> bytearray:
    if isinstance(content, str) and encoding == "latin-1":
        return bytearray(content, "latin-1")
    return bytearray(_bytes(content))


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise NotAllowed("a call of _codecs.encode for something else than bytes")
    return text.encode("latin1")


def _reconstructor(cls: Any, base: Any, state: Any) -> Any:
    if base is not object or state is not None or not is_class(cls):
        raise NotAllowed(f"a copyreg._reconstructor of {cls!r:.200}")
    return cls.__new__(cls)


def _new_object(cls: Any, *arguments: Any) -> Any:
    if arguments or not is_class(cls):
        raise NotAllowed(f"a copyreg.__newobj__ of {cls!r:.200}")
    return cls.__new__(cls)


def _array(cls: Any, shape: Any, code: Any) -> EmptyArray:
    if cls is not np.ndarray:
        raise NotAllowed(f"an array of {cls!r:.200}, which is no numpy.ndarray")
    return EmptyArray()


def _masked(cls: Any, base: Any, shape: Any, code: Any, *more: Any) -> EmptyMasked:
    return EmptyMasked()


def _bit_generator(name: Any = "MT19937") -> Any:
    name = name if isinstance(name, str) else getattr(name, "__name__", "")
    if name not in _GENERATORS:
        raise NotAllowed(f"the random bit generator {name!r:.60}")
    return getattr(np.random, name)(0)


def _random_state(generator: Any = "MT19937", *more: Any) -> np.random.RandomState:
    return np.random.RandomState(_as_bit_generator(generator))


def _generator(generator: Any = "MT19937", *more: Any) -> np.random.Generator:
    return np.random.Generator(_as_bit_generator(generator))


def _as_bit_generator(found: Any) -> Any:
    return found if isinstance(found, np.random.BitGenerator) else _bit_generator(found)


def _seeds(*arguments: Any) -> Seeds:
    return Seeds()


def _tree(*arguments: Any) -> Any:
    """``sklearn.tree._tree.Tree(features, classes of each output, outputs)``; its arrays follow."""
    from sklearn.tree._tree import Tree

    features, classes, outputs = arguments
    if not isinstance(classes, np.ndarray) or classes.shape != (_whole(outputs),):
        raise Malformed("a tree has another number of outputs than it says")
    return Tree(_whole(features), classes.astype(np.intp), _whole(outputs))


def _neighbours(cls: Any) -> EmptyTree:
    return EmptyTree(_of_module(cls, "sklearn.neighbors._kd_tree", "sklearn.neighbors._ball_tree"))


def _metric(cls: Any) -> EmptyMetric:
    return EmptyMetric(_of_module(cls, "sklearn.metrics._dist_metrics"))


class NumbersOnly:
    """A constructor of a class of scikit-learn's that takes numbers, such as a loss."""

    def __init__(self, cls: type) -> None:
        self.cls = cls

    def __call__(self, *arguments: Any) -> Any:
        """An object of the class."""
        return self.cls(*(_float(argument) for argument in arguments))


def is_class(cls: Any) -> bool:
    """Whether it is a class on the list."""
    return isinstance(cls, type) and Name(cls.__module__, cls.__qualname__) in CLASSES


def _partial(function: Any) -> EmptyPartial:
    return EmptyPartial(function)


def _unpickled_loss(cls: Any, checksum: Any, state: Any) -> Any:
    """A loss of scikit-learn's with its parameters, as Cython writes it."""
    if type(cls) is not NumbersOnly or not (state is None or type(state) is tuple):
        raise NotAllowed(f"an object of {cls!r:.200}")
    return cls(*(state or ()))


def _of_module(cls: Any, *modules: str) -> type:
    if not isinstance(cls, type) or cls.__module__ not in modules:
        raise NotAllowed(f"an object of {cls!r:.200}")
    return cls


def _list(items: Any) -> Any:
    if type(items) not in (list, tuple, set):
        raise Malformed("a container is made of something else than a list")
    return items


def _pair(item: Any) -> tuple[Any, Any]:
    key, value = _list(item)
    return key, value


def _bytes(content: Any) -> bytes:
    if not isinstance(content, bytes | bytearray):
        raise NotAllowed("bytes that are made of something else")
    return bytes(content)


def _whole(number: Any) -> int:
    if not isinstance(number, int | np.integer) or abs(int(number)) > 2**53:
        raise Malformed("a whole number is something else")
    return int(number)


def _float(number: Any) -> float:
    if not isinstance(number, int | float | np.integer | np.floating):
        raise Malformed("a number is something else")
    return float(number)


_LOSSES = (
    "CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss CyHalfMultinomialLoss CyHalfPoissonLoss "
    "CyHalfSquaredError CyHalfTweedieLoss CyHalfTweedieLossIdentity CyHuberLoss CyPinballLoss"
)
_SGD_LOSSES = "EpsilonInsensitive Hinge Huber Log ModifiedHuber SquaredEpsilonInsensitive SquaredHinge SquaredLoss"
NUMBERS = {Name("sklearn._loss._loss", name) for name in _LOSSES.split()} | {
    Name("sklearn.linear_model._sgd_fast", name) for name in _SGD_LOSSES.split()
}
"""Classes that `NumbersOnly` makes."""
TREES = {Name("sklearn.neighbors._kd_tree", name) for name in ("KDTree", "KDTree32", "KDTree64")} | {
    Name("sklearn.neighbors._ball_tree", name) for name in ("BallTree", "BallTree32", "BallTree64")
}
METRICS = {
    Name("sklearn.metrics._dist_metrics", f"{name}Distance{bits}")
    for name in [
        "BrayCurtis",
        "Canberra",
        "Chebyshev",
        "Dice",
        "Euclidean",
        "Hamming",
        "Haversine",
        "Jaccard",
        "Manhattan",
        "Minkowski",
        "RogersTanimoto",
        "RussellRao",
        "SokalSneath",
    ]
    for bits in (32, 64)
}
"""Arguments of other calls."""
PASSED = (
    TREES
    | METRICS
    | {
        Name("numpy.ma", "MaskedArray"),
        Name("numpy.ma.core", "MaskedArray"),
        Name("numpy.random.bit_generator", "SeedSequence"),
    }
    | {Name(f"numpy.random._{name.lower()}", name) for name in _GENERATORS}
    | {Name("pandas", "Index"), Name("pandas.core.indexes.base", "Index")}
)

CALLABLE: dict[Name, Callable[..., Any]] = {
    arrays.DTYPE: arrays.make_dtype,
    arrays.WRAPPER: arrays.Wrapper,
    Name("_codecs", "encode"): _encode,
    Name("builtins", "bytearray"): _bytearray,
    Name("builtins", "complex"): _complex,
    Name("builtins", "frozenset"): _frozenset,
    Name("builtins", "range"): _range,
    Name("builtins", "set"): _set,
    Name("builtins", "slice"): _slice,
    Name("collections", "OrderedDict"): _ordered_dict,
    Name("collections", "defaultdict"): _default_dict,
    Name("functools", "partial"): _partial,
    Name("copyreg", "__newobj__"): _new_object,
    Name("copyreg", "_reconstructor"): _reconstructor,
    Name("numpy._core.multiarray", "_reconstruct"): _array,
    Name("numpy._core.multiarray", "scalar"): arrays.scalar,
    Name("numpy._core.numeric", "_frombuffer"): arrays.build,
    Name("numpy.ma.core", "_mareconstruct"): _masked,
    Name("numpy.random._pickle", "__bit_generator_ctor"): _bit_generator,
    Name("numpy.random._pickle", "__generator_ctor"): _generator,
    Name("numpy.random._pickle", "__randomstate_ctor"): _random_state,
    Name("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"): _seeds,
    Name("pandas", "StringDtype"): index_labels.string_dtype,
    Name("pandas.arrays", "ArrowStringArray"): index_labels.Texts,
    Name("pandas.core.indexes.base", "_new_Index"): index_labels.index,
    Name("pyarrow.lib", "_restore_array"): index_labels.arrow_array,
    Name("pyarrow.lib", "chunked_array"): index_labels.chunked,
    Name("pyarrow.lib", "py_buffer"): index_labels.buffer,
    Name("pyarrow.lib", "type_for_alias"): index_labels.type_of,
    Name("sklearn.metrics._dist_metrics", "newObj"): _metric,
    **{Name("sklearn._loss._loss", f"__pyx_unpickle_{name}"): _unpickled_loss for name in _LOSSES.split()},
    Name("sklearn.neighbors._ball_tree", "newObj"): _neighbours,
    Name("sklearn.neighbors._kd_tree", "newObj"): _neighbours,
    Name("sklearn.tree._tree", "Tree"): _tree,
}
"""Guards by the name of what they stand for."""
