"""A machine for pickles that runs nothing on its own: each call that a file asks for is put to a subclass.

`pickle.Unpickler.find_class` alone guards too little: what it lets through can be called with any arguments, objects
may run code as they get their attributes, and joblib reads arrays of objects by a second, unguarded unpickler.
"""

import pickle
from abc import abstractmethod
from collections import OrderedDict, defaultdict
from typing import Any, BinaryIO, ClassVar

from machine_learning_engineering.adoption.opening.names import Name, canonical
from machine_learning_engineering.adoption.opening.refusal import Malformed, NotAllowed

_MAX_DEPTH = 200


_Unpickler: Any = vars(pickle)["_Unpickler"]
"""The one in Python, as joblib uses it: the one in C can't be changed."""


class Machine(_Unpickler):  # type: ignore[misc]
    """Reads a pickle, with joblib's arrays in between, and leaves every decision to its subclass."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Unpickler.dispatch)

    def __init__(self, file: BinaryIO, depth: int = 0) -> None:
        super().__init__(file, encoding="ASCII", errors="strict")
        if depth > _MAX_DEPTH:
            raise Malformed("arrays of objects are nested too deeply")
        self.file = file
        self.depth = depth

    # --- decided by a subclass ----------------------------------------------------------------------------------------

    @abstractmethod
    def named(self, name: Name) -> Any:
        """What stands for a global."""

    @abstractmethod
    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """The result of a call."""

    @abstractmethod
    def make(self, cls: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """An object of a class."""

    @abstractmethod
    def fill(self, made: Any, state: Any) -> Any:
        """The object with its attributes: the same one, or the one that takes its place."""

    @abstractmethod
    def can_hold(self, made: Any) -> bool:
        """Whether entries that follow may be dropped into a stand-in for a container."""

    # --- instructions of a pickle -------------------------------------------------------------------------------------

    def find_class(self, module: str, name: str) -> Any:
        """See `pickle`."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise Malformed("a global is named by something else than text")
        return self.named(canonical(module, name))

    def persistent_load(self, pid: Any) -> Any:
        """See `pickle`."""
        raise NotAllowed("a persistent id, which names a thing outside of the file")

    def get_extension(self, code: int) -> None:
        """See `pickle`."""
        raise NotAllowed(f"extension {code} of the copyreg module")

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if type(arguments) is not tuple:
            raise Malformed("the arguments of a call are not a tuple")
        self.stack[-1] = self.call(function, arguments)

    def _newobj(self) -> None:
        arguments = self.stack.pop()
        cls = self.stack.pop()
        if type(arguments) is not tuple:
            raise Malformed("the arguments of a class are not a tuple")
        self.append(self.make(cls, arguments, {}))

    def _newobj_ex(self) -> None:
        keywords = self.stack.pop()
        arguments = self.stack.pop()
        cls = self.stack.pop()
        if type(arguments) is not tuple or type(keywords) is not dict:
            raise Malformed("the arguments of a class are not a tuple and a mapping")
        self.append(self.make(cls, arguments, keywords))

    def _inst(self) -> None:
        module = self.readline()[:-1].decode("ascii")
        name = self.readline()[:-1].decode("ascii")
        arguments = tuple(self.pop_mark())
        self.append(self.make(self.find_class(module, name), arguments, {}))

    def _obj(self) -> None:
        cls, *arguments = self.pop_mark()
        self.append(self.make(cls, tuple(arguments), {}))

    def _build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        filled = self.fill(made, state)
        if filled is not made:
            self.stack[-1] = filled
            # It was noted a moment ago, if at all.
            for key in reversed(self.memo):
                if self.memo[key] is made:
                    self.memo[key] = filled
                    break

    def _appends(self) -> None:
        items = self.pop_mark()
        self._entries(list).extend(items)

    def _append(self) -> None:
        item = self.stack.pop()
        self._entries(list).append(item)

    def _setitems(self) -> None:
        items = self.pop_mark()
        self._entries(dict, OrderedDict, defaultdict).update(zip(items[::2], items[1::2], strict=True))

    def _setitem(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self._entries(dict, OrderedDict, defaultdict)[key] = value

    def _additems(self) -> None:
        items = self.pop_mark()
        self._entries(set).update(items)

    def _entries(self, *kinds: type) -> Any:
        """The container on top of the stack. Only Python's own: another one may run code as it gets an entry."""
        found = self.stack[-1]
        if type(found) in kinds:
            return found
        if self.can_hold(found):
            return found if isinstance(found, kinds[0]) else kinds[0]()
        raise NotAllowed(f"entries for a {type(found).__name__}, which is no container of Python's own")

    for opcode, method in (
        (pickle.REDUCE, _reduce),
        (pickle.NEWOBJ, _newobj),
        (pickle.NEWOBJ_EX, _newobj_ex),
        (pickle.INST, _inst),
        (pickle.OBJ, _obj),
        (pickle.BUILD, _build),
        (pickle.APPENDS, _appends),
        (pickle.APPEND, _append),
        (pickle.SETITEMS, _setitems),
        (pickle.SETITEM, _setitem),
        (pickle.ADDITEMS, _additems),
    ):
        dispatch[opcode[0]] = method
    del opcode, method
