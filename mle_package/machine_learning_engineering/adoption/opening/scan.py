"""What a pickle asks for, without doing any of it."""

from collections.abc import Iterable
from typing import Any, BinaryIO, NamedTuple

from machine_learning_engineering.adoption.opening import arrays
from machine_learning_engineering.adoption.opening.machine import Machine
from machine_learning_engineering.adoption.opening.names import CLASSES, TUPLES, VALUES, Name
from machine_learning_engineering.adoption.opening.rebuild import CALLABLE, NUMBERS, PASSED
from machine_learning_engineering.adoption.opening.refusal import Malformed, NotAllowed

_BYTES = Name("builtins", "bytes")
_TEXTS = Name("pandas.arrays", "ArrowStringArray")
_VERSION = "_sklearn_version"


class Thing:
    """Stands for an object that is not made."""

    __slots__ = ()


class Global(NamedTuple):
    """Stands for a global that is not imported."""

    name: Name


class Findings(NamedTuple):
    """What a file asks for."""

    names: dict[Name, None]
    versions: set[str]


def scan(file: BinaryIO) -> Findings:
    """Read a pickle without importing, making or calling anything.

    Raises:
        NotAllowed: It asks for what is on no list, or calls what may not be called.
        Malformed: It is no pickle.
    """
    findings = Findings({}, set())
    _Scanner(file, findings).load()
    return findings


class _Scanner(Machine):
    def __init__(self, file: BinaryIO, findings: Findings, depth: int = 0) -> None:
        super().__init__(file, depth)
        self.findings = findings

    def named(self, name: Name) -> Any:
        if not any(name in listed for listed in (CLASSES, VALUES, CALLABLE, NUMBERS, PASSED)):
            raise NotAllowed(str(name))
        self.findings.names[name] = None
        return Global(name)

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        if function == Global(_BYTES) and not arguments:  # How protocol 2 writes b"".
            return b""
        if type(function) is not Global or (function.name not in CALLABLE and function.name not in NUMBERS):
            raise NotAllowed(f"a call of {_told(function)}")
        if function.name == arrays.DTYPE:
            return arrays.make_dtype(*arguments)
        if function.name in CONTAINERS:
            return CALLABLE[function.name](*_inert(arguments))
        return Thing()

    def make(self, cls: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if type(cls) is Global and cls.name == arrays.WRAPPER and not arguments and not keywords:
            return arrays.Wrapper()
        if type(cls) is Global and cls.name == _TEXTS and not arguments and not keywords:
            return Thing()
        if type(cls) is not Global or cls.name not in CLASSES or keywords or (arguments and cls.name not in TUPLES):
            raise NotAllowed(f"an object of {_told(cls)}" + (" with arguments" * bool(arguments or keywords)))
        return Thing()

    def fill(self, made: Any, state: Any) -> Any:
        for part in state if type(state) is tuple else (state,):
            if type(part) is dict and isinstance(version := part.get(_VERSION), str):
                self.findings.versions.add(version)
        if type(made) is arrays.Wrapper and type(state) is dict:
            made.fill({key: _subclass(value) if key == "subclass" else value for key, value in state.items()})
            arrays.read(made, self.file, self._nested)
            return Thing()
        if arrays.is_dtype(made):
            return arrays.fill_dtype(made, state)
        if type(made) is not Thing:
            raise NotAllowed(f"attributes for a {type(made).__name__}")
        return made

    def can_hold(self, made: Any) -> bool:
        return type(made) is Thing

    def _nested(self) -> Any:
        return _Scanner(self.file, self.findings, self.depth + 1).load()


CONTAINERS = {Name("collections", "OrderedDict"), Name("builtins", "set")}


def _inert(arguments: Iterable[Any]) -> list[Any]:
    found = list(arguments)
    if any(type(part) is not list for part in found):
        raise Malformed("a container is made of something else than a list")
    return found


def _subclass(found: Any) -> Any:
    return None if found == Global(Name("numpy", "ndarray")) else found


def _told(what: Any) -> str:
    return str(what.name) if type(what) is Global else f"a {type(what).__name__}"
