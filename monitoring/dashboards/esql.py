"""Determines which fields an ES|QL query reads and which columns it returns, without running it.

It supports the commands and syntax that our dashboards use. Any other query is an error, so that no query passes
unchecked. Functions and types can only be checked by Elasticsearch.
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
  | `(?P<quoted>[^`]+)`
  | (?P<name>[@A-Za-z_][\w@]*(?:\.[\w@]+)*(?:\.\*)?)
  | (?P<operator>==|!=|<=|>=|[-+*/%<>=|,()\[\]:])
  | (?P<space>\s+)
    """,
    re.VERBOSE,
)
_WORDS = {"AND", "OR", "NOT", "IS", "NULL", "TRUE", "FALSE", "IN", "LIKE", "RLIKE", "ASC", "DESC", "NULLS", "WHERE"}
# A field in a KQL query: a name before a colon or a comparison.
_KQL_FIELD = re.compile(r"([@A-Za-z_][\w@.]*)\s*(?::|[<>])")


class UnreadableQuery(ValueError):
    """A query with unsupported syntax; the message says what and where."""


class Shape(NamedTuple):
    """Input and output of a query.

    Attributes:
        pattern: the index pattern that it reads.
        fields: the fields of the index that it reads.
        kql_fields: the fields that it searches with KQL, including keys of flattened fields.
        columns: the columns of its result, unordered; None: all fields of the index.
        limited: whether it has a LIMIT.
        aliased_bucket: whether a time bucket was renamed.
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
    """Analyze a query.

    Raises:
        UnreadableQuery: an unsupported command or syntax, or a column that an earlier command has dropped.
    """
    source, *commands = _split(list(_tokens(query)), "|")
    if [token.text.upper() for token in source[:1]] != ["FROM"]:
        raise UnreadableQuery("it does not start with FROM")
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
    # The index pattern of FROM is not an expression: it is one token.
    if source := re.match(r"\s*(?P<from>FROM)\s+(?P<index>[\w*.,-]+)\s*(?=\||$)", query, re.IGNORECASE):
        for group in ("from", "index"):
            yield _Token("name", source[group], source.start(group), source.end(group), 0)
        position = source.end()
    while position < len(query):
        match = _TOKEN.match(query, position)
        if match is None or match.lastgroup is None:
            raise UnreadableQuery(f"unsupported syntax at {query[position : position + 40]!r}")
        text, position = match[match.lastgroup], match.end()
        depth -= text == ")"
        if match.lastgroup != "space":
            kind = "name" if match.lastgroup == "quoted" else match.lastgroup
            yield _Token(kind, text, match.start(), match.end(), depth)
        depth += text == "("


def _split(tokens: Sequence[_Token], separator: str) -> list[list[_Token]]:
    """The parts between separators outside of parentheses."""
    parts: list[list[_Token]] = [[]]
    for token in tokens:
        if token.depth == 0 and token.text.upper() == separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


class _Reader:
    """Processes a query command by command. `columns` is None while all fields of the index are available."""

    def __init__(self, query: str) -> None:
        self._query = query
        self.fields: set[str] = set()
        self.kql: list[str] = []
        self.columns: set[str] | None = None
        self.limited = False
        self.aliased_bucket = False
        # Columns created by the query while the fields of the index are still available.
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
            raise UnreadableQuery(f"unsupported command {name}")
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
            columns = ", ".join(sorted(self.columns))
            raise UnreadableQuery(f"the column {name} was dropped; the columns are {columns}")
        self.fields.add(name)

    def _assignment(self, part: list[_Token]) -> str:
        """Process `name = expression`, or an expression, which names itself; return the name."""
        if not part:
            raise UnreadableQuery("nothing between two commas")
        if len(part) > 2 and part[0].kind == "name" and part[1].text == "=":
            self.aliased_bucket |= part[2].text.upper() == "BUCKET" and "@timestamp" in {t.text for t in part}
            self._use(part[2:])
            return part[0].text
        self._use(part)
        # A column in backquotes is named by what is between them.
        return part[0].text if len(part) == 1 else self._query[part[0].start : part[-1].end]

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
