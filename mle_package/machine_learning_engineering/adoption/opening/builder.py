"""Making the objects of a pickle that `scan` has found harmless. Every call and every attribute is checked again."""

from functools import partial
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np

from machine_learning_engineering.adoption.opening import arrays, index_labels
from machine_learning_engineering.adoption.opening.machine import Machine
from machine_learning_engineering.adoption.opening.names import CLASSES, TUPLES, VALUES, Name
from machine_learning_engineering.adoption.opening.rebuild import (
    CALLABLE,
    NUMBERS,
    PASSED,
    EmptyArray,
    EmptyMasked,
    EmptyMetric,
    EmptyPartial,
    EmptyTree,
    NumbersOnly,
    Seeds,
    is_class,
)
from machine_learning_engineering.adoption.opening.refusal import Malformed, NotAllowed

_STAND_INS: tuple[Any, ...] = (arrays.Wrapper, index_labels.Texts)
_GUARDS = set(map(id, CALLABLE.values()))
# Their own way back from a pickle was read: it parses bytes, or derives what is not kept from arrays.
_OWN_STATE = frozenset(
    {
        Name("lightgbm.basic", "Booster"),
        Name("sklearn.isotonic", "IsotonicRegression"),
        Name("xgboost.core", "Booster"),
    }
)
_SKIPPED = "_sklearn_version"


def build(file: BinaryIO) -> Any:
    """The object in a pickle.

    Raises:
        NotAllowed: It asks for what is on no list.
        Malformed: Its parts do not fit together.
        ImportError: A library or one of its classes is not there.
    """
    return Builder(file).load()


class Builder(Machine):
    """Makes objects of listed classes and gives them their attributes, without their constructors."""

    def named(self, name: Name) -> Any:
        if name in CALLABLE:
            return CALLABLE[name]
        if name in NUMBERS:
            return NumbersOnly(_load(name))
        if name in CLASSES or name in VALUES or name in PASSED:
            return _load(name)
        raise NotAllowed(str(name))

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        if function is bytes and not arguments:  # How protocol 2 writes b"".
            return b""
        if id(function) not in _GUARDS and type(function) is not NumbersOnly:
            raise NotAllowed(f"a call of {function!r:.200}")
        return function(*arguments)

    def make(self, cls: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if cls in _STAND_INS and not arguments and not keywords:
            return cls()
        if not is_class(cls) or keywords:
            raise NotAllowed(f"an object of {cls!r:.200}")
        if not arguments:
            return cls.__new__(cls)
        if Name(cls.__module__, cls.__qualname__) not in TUPLES:
            raise NotAllowed(f"an object of {cls!r:.200} with arguments")
        return cls(*arguments)

    def fill(self, made: Any, state: Any) -> Any:
        match made:
            case arrays.Wrapper():
                made.fill(state)
                return arrays.read(made, self.file, self._nested)
            case np.dtype():
                return arrays.fill_dtype(made, state)
            case EmptyArray():
                return arrays.fill_array(state)
            case index_labels.Texts():
                return index_labels.texts(state)
            case EmptyPartial():
                return _partial(made.function, state)
            case EmptyMasked():
                return _masked_array(state)
            case EmptyTree():
                return _neighbours(made.cls, state)
            case EmptyMetric():
                return _metric(made.cls, state)
            case Seeds():
                return made
            case np.random.BitGenerator():
                # The seeds, if any, are behind the state.
                made.state = state[0] if type(state) is tuple else state
                return made
            case np.random.RandomState():
                made.set_state(state)
                return made
            case np.random.Generator():
                if state is not None:
                    made.bit_generator.state = state
                return made
        if type(made).__module__ == "sklearn.tree._tree":
            made.__setstate__(_checked_tree(state, made.n_features))
            return made
        if not is_class(type(made)):
            raise NotAllowed(f"attributes for a {type(made).__name__}")
        return _with_attributes(made, state)

    def can_hold(self, made: Any) -> bool:
        # A mapping of scikit-learn's that is also read by attributes.
        return isinstance(made, dict) and Name(type(made).__module__, type(made).__qualname__) in CLASSES

    def _nested(self) -> Any:
        return Builder(self.file, self.depth + 1).load()


def _load(name: Name) -> Any:
    found = getattr(import_module(name.module), name.name, None)
    if found is None:
        raise ImportError(f"there is no {name}")
    return found


def _with_attributes(made: Any, state: Any) -> Any:
    attributes, slots = state if type(state) is tuple and len(state) == 2 else (state, None)
    if attributes is None:
        attributes = {}
    if type(attributes) is not dict or slots or not all(type(key) is str for key in attributes):
        raise Malformed(f"the attributes of a {type(made).__name__} are no mapping")
    attributes = {key: value for key, value in attributes.items() if key != _SKIPPED}
    if any(key.startswith("__") for key in attributes):
        raise NotAllowed(f"a special attribute of a {type(made).__name__}")
    name = Name(type(made).__module__, type(made).__qualname__)
    if name.name == "TreePredictor":
        _check_predictor(attributes)
    if name in _OWN_STATE:
        made.__setstate__(attributes)
    else:
        vars(made).update(attributes)
    return made


def _partial(function: Any, state: Any) -> Any:
    """A function of the list with plain keywords, such as scikit-learn keeps for its own checks."""
    if type(state) is not tuple or len(state) != 4:
        raise Malformed("a functools.partial has an unknown state")
    found, arguments, keywords, attributes = state
    plain = (bool, int, float, str, type, type(None))
    values = list(keywords.values()) if type(keywords) is dict else [keywords]
    values = [one for value in values for one in (value if type(value) is list else [value])]
    if found is not function or not _is_function(function) or arguments != () or attributes:
        raise NotAllowed("a functools.partial of a function that is not on the list, or with arguments")
    if any(not isinstance(value, plain) for value in values):
        raise NotAllowed("a functools.partial with other keywords than numbers and texts")
    return partial(function, **keywords)


def _is_function(function: Any) -> bool:
    name = getattr(function, "__name__", "")
    places = (getattr(function, "__module__", None) or "numpy", "numpy", "scipy.special")
    return not isinstance(function, type) and any(
        Name(place, name) in VALUES and _load(Name(place, name)) is function for place in places
    )


def _masked_array(state: Any) -> Any:
    if type(state) is not tuple or len(state) != 7:
        raise Malformed("a masked array has an unknown state")
    _, shape, dtype, fortran, data, mask, fill_value = state
    order = "F" if fortran else "C"
    found = np.ma.MaskedArray(
        arrays.build(data, dtype, shape, order), mask=arrays.build(mask, np.dtype(bool), shape, order)
    )
    if fill_value is not None:
        found.fill_value = fill_value
    return found


def _checked_tree(state: Any, features: int) -> Any:
    """The state of a decision tree whose nodes point forward, to nodes that are there: a prediction ends in a leaf."""
    nodes, values = (state.get(key) for key in ("nodes", "values")) if type(state) is dict else (None, None)
    if not isinstance(nodes, np.ndarray) or not isinstance(values, np.ndarray) or nodes.dtype.names is None:
        raise Malformed("a tree has an unknown state")
    count = state.get("node_count")
    if count != len(nodes) or len(values) != count:
        raise Malformed("a tree has another number of nodes than it says")
    inner = nodes["left_child"] != -1
    _check_nodes(nodes, inner, "left_child", "right_child")
    if (nodes["feature"][inner] < 0).any() or (nodes["feature"][inner] >= features).any():
        raise Malformed("a node of a tree asks for a feature that is not there")
    return state


def _check_predictor(attributes: dict[str, Any]) -> None:
    """The same for a tree of histogram gradient boosting."""
    nodes = attributes.get("nodes")
    if not isinstance(nodes, np.ndarray) or nodes.dtype.names is None:
        raise Malformed("a tree has an unknown state")
    _check_nodes(nodes, nodes["is_leaf"] == 0, "left", "right")
    categorical = nodes["bitset_idx"][nodes["is_categorical"] != 0]
    if any(
        (categorical >= len(attributes[name])).any() for name in ("binned_left_cat_bitsets", "raw_left_cat_bitsets")
    ):
        raise Malformed("a node of a tree asks for categories that are not there")


def _check_nodes(nodes: Any, inner: Any, *sides: str) -> None:
    here = np.arange(len(nodes))[inner]
    for side in sides:
        child = nodes[side][inner].astype(np.int64)
        if (child <= here).any() or (child >= len(nodes)).any():
            raise Malformed("a node of a tree points to a node that is not there")


def _neighbours(cls: Any, state: Any) -> Any:
    """A tree of neighbours, made again of its points and compared: its arrays are indices that it does not check."""
    if type(state) is not tuple or len(state) < 12:
        raise Malformed("a tree of neighbours has an unknown state")
    points, leaf_size, metric = state[0], state[4], state[11]
    weights = state[12] if len(state) > 12 else None
    if not isinstance(points, np.ndarray) or points.ndim != 2 or type(leaf_size) is not int:
        raise Malformed("a tree of neighbours has an unknown state")
    made = cls(points, leaf_size=leaf_size, metric=metric, sample_weight=weights)
    again: Any = made.__getstate__()
    for one, other in zip(state[:4], again[:4], strict=True):
        if not np.array_equal(one, other):
            raise Malformed("a tree of neighbours is not the tree of its points")
    return made


def _metric(cls: Any, state: Any) -> Any:
    if type(state) is not tuple or len(state) < 2 or type(state[0]) is not float:
        raise Malformed("a distance has an unknown state")
    made = cls.__new__(cls)
    made.__setstate__((float(state[0]), np.ascontiguousarray(state[1]), *state[2:]))
    return made
