"""What an ES|QL query reads and gives, as far as that can be told without running it.

This knows the commands and the syntax that our dashboards use, and no more: a query that it can't follow is an error,
so that nothing passes unread. Whether functions and types are right only the search node can tell.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
    (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<unit>\d+(?:\.\d+)?\s+(?:millisecond|second|minute|hour|day|week|month|year)s?\b)
  | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
  | (?P<parameter>\?\w+)
  | (?P<function>[A-Za-z_]\w*(?=\s*\())
  | (?P<name>[@A-Za-z_][\w@]*(?:\.[\w@]+)*(?:\.\*)?)
  | (?P<operator>==|!=|<=|>=|[-+*/%<>=|,()\[\]:])
  | (?P<space>\s+)
    """,
    re.VERBOSE,
)
_WORDS = {"AND", "OR", "NOT", "IS", "NULL", "TRUE", "FALSE", "IN", "LIKE", "RLIKE", "ASC", "DESC", "NULLS", "WHERE"}
# A field in a KQL text: a name before a colon or a comparison.
_KQL_FIELD = re.compile(r"([@A-Za-z_][\w@.]*)\s*(?::|[<>])")


class UnreadableQuery(ValueError):
    """A query that can't be followed; the message says why and where."""


class Shape(NamedTuple):
    """What a query is about.

    Attributes:
        pattern: the index pattern that it reads.
        fields: the fields of the index that it reads.
        kql_fields: those that it searches with KQL, where a key of a flattened field is a field too.
        columns: what its answer has, in no order; None where these are all fields of the index.
        limited: whether it says how many rows it wants.
        aliased_bucket: whether a bucket of time was given another name.
    """

    pattern: str
    fields: frozenset[str]
    kql_fields: frozenset[str]
    columns: frozenset[str] | None
    limited: bool
    aliased_bucket: bool


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int
    depth: int


def shape(query: str) -> Shape:
    """
    Raises:
        UnreadableQuery: it has a command or syntax that is not known here, or names a column that a command before
            has dropped.
    """
    source, *commands = _split(list(_tokens(query)), "|")
    if [token.text.upper() for token in source[:1]] != ["FROM"]:
        raise UnreadableQuery("it does not begin with FROM")
    reader = _Reader(query)
    for command in commands:
        if not command:
            raise UnreadableQuery("an empty command between two |")
        reader.read(command)
    pattern = query[source[0].end : source[-1].end].strip()
    columns = None if reader.columns is None else frozenset(reader.columns)
    kql = frozenset(field for text in reader.kql for field in _KQL_FIELD.findall(text))
    return Shape(pattern, frozenset(reader.fields), kql, columns, reader.limited, reader.aliased_bucket)


def _tokens(query: str) -> Iterator[_Token]:
    position = depth = 0
    # The index pattern of FROM is no expression, so it is a token of its own.
    if source := re.match(r"\s*(?P<from>FROM)\s+(?P<index>[\w*.,-]+)\s*(?=\||$)", query, re.IGNORECASE):
        for group in ("from", "index"):
            yield _Token("name", source[group], source.start(group), source.end(group), 0)
        position = source.end()
    while position < len(query):
        match = _TOKEN.match(query, position)
        if match is None or match.lastgroup is None:
            raise UnreadableQuery(f"can't be read from here on: {query[position : position + 40]!r}")
        text, position = match[0], match.end()
        depth -= text == ")"
        if match.lastgroup != "space":
            yield _Token(match.lastgroup, text, match.start(), match.end(), depth)
        depth += text == "("


def _split(tokens: Sequence[_Token], separator: str) -> list[list[_Token]]:
    """The parts between the separators that stand outside all parentheses."""
    parts: list[list[_Token]] = [[]]
    for token in tokens:
        if token.depth == 0 and token.text.upper() == separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


class _Reader:
    """Follows a query command by command. `columns` is None while they are all fields of the index."""

    def __init__(self, query: str) -> None:
        self._query = query
        self.fields: set[str] = set()
        self.kql: list[str] = []
        self.columns: set[str] | None = None
        self.limited = False
        self.aliased_bucket = False
        # Columns that the query has made, while the fields of the index are there too.
        self._made: set[str] = set()
        self._commands: dict[str, Callable[[list[_Token]], None]] = {
            "WHERE": self._use,
            "EVAL": self._eval,
            "STATS": self._stats,
            "KEEP": self._keep,
            "SORT": self._use,
            "MV_EXPAND": self._use,
            "LIMIT": self._limit,
        }

    def read(self, command: list[_Token]) -> None:
        name = command[0].text.upper()
        if name not in self._commands:
            raise UnreadableQuery(f"the command {name} is not known here")
        self._commands[name](command[1:])

    def _use(self, expression: list[_Token]) -> None:
        previous = ""
        for token in expression:
            if token.kind == "name" and token.text.upper() not in _WORDS | {"FIRST", "LAST"}:
                self._column(token.text)
            elif token.kind == "string" and previous == "KQL(":
                self.kql.append(token.text[1:-1].replace('\\"', '"'))
            previous = previous + "(" if token.text == "(" else token.text.upper()

    def _column(self, name: str) -> None:
        if name in self._made or (self.columns is not None and name in self.columns):
            return
        if self.columns is not None:
            raise UnreadableQuery(f"there is no column {name} any more; there are {', '.join(sorted(self.columns))}")
        self.fields.add(name)

    def _assignment(self, part: list[_Token]) -> str:
        """Read `name = expression`, or an expression, which is a name by itself; that name."""
        if not part:
            raise UnreadableQuery("nothing between two commas")
        if len(part) > 2 and part[0].kind == "name" and part[1].text == "=":
            self.aliased_bucket |= part[2].text.upper() == "BUCKET" and "@timestamp" in {t.text for t in part}
            self._use(part[2:])
            return part[0].text
        self._use(part)
        return self._query[part[0].start : part[-1].end]

    def _eval(self, expression: list[_Token]) -> None:
        for part in _split(expression, ","):
            made = self._assignment(part)
            self._made.add(made)
            if self.columns is not None:
                self.columns.add(made)

    def _stats(self, expression: list[_Token]) -> None:
        parts = [part for half in _split(expression, "BY") for part in _split(half, ",")]
        columns = {self._assignment(part) for part in parts}
        self.columns, self._made = columns, set()

    def _keep(self, expression: list[_Token]) -> None:
        self._use(expression)
        self.columns, self._made = {token.text for token in expression if token.kind == "name"}, set()

    def _limit(self, _: list[_Token]) -> None:
        self.limited = True
