"""Expressions of answers: a small closed language over the outputs of an estimator. Nothing is evaluated as Python.

An expression is computed for all rows of a batch at once. It may use

- the outputs `predict`, `predict_proba`, `predict_log_proba`, `decision_function`, `score_samples` and `transform`; of
  one with several columns, a column by its number, ``predict_proba[:, 1]``, or by its label, ``predict_proba["yes"]``,
- earlier fields of the answer by name,
- numbers, texts, ``True`` and ``False``, ``+ - * / // %``, comparisons, ``and``, ``or``, ``not``, ``a if x else b``,
- the functions `abs`, `bool`, `exp`, `float`, `int`, `log`, `max`, `min`, `round`, `sqrt`, `text`, and `top`.
"""

import ast
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from machine_learning_engineering.adoption import operations
from machine_learning_engineering.adoption.expression_types import (
    OUTPUTS,
    Answer,
    InvalidExpression,
    Kind,
    Origin,
    Scalar,
)
from machine_learning_engineering.declaration.reading import nearest

__all__ = ["compile_answer"]

MAX_CHARACTERS = 500
_BY_LABEL = ("predict_proba", "predict_log_proba", "decision_function")
_NUMBERS = ("float", "int", "bool")
_SCALARS = (*_NUMBERS, "text")


def compile_answer(text: str, fields: Mapping[str, Answer], classes: Sequence[Scalar]) -> Answer:
    """Compile an expression.

    Args:
        text: The expression.
        fields: Earlier fields of the answer by name.
        classes: Labels of a classifier; none if it predicts numbers.

    Raises:
        InvalidExpression: It is not in the language.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidExpression(MAX_CHARACTERS, f"an expression has at most {MAX_CHARACTERS} characters")
    if not text.isprintable():
        raise InvalidExpression(1, "an expression is one line, without tabs")
    code = text.lstrip()
    skipped = len(text) - len(code)
    try:
        with warnings.catch_warnings():
            # Such as of an escape in a text that Python does not know.
            warnings.simplefilter("ignore")
            tree = ast.parse(code, mode="eval")
    except SyntaxError as error:
        raise InvalidExpression((error.offset or 1) + skipped, f"is no expression: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InvalidExpression(1, "is no expression") from error
    try:
        return _Compiler(fields, classes).visit(tree.body)
    except InvalidExpression as error:
        # The parser counts bytes.
        before = code.encode()[: error.position - 1].decode(errors="ignore")
        raise InvalidExpression(len(before) + 1 + skipped, error.problem) from error
    except RecursionError as error:
        raise InvalidExpression(1, "is nested too deeply") from error


class _Compiler:
    def __init__(self, fields: Mapping[str, Answer], classes: Sequence[Scalar]) -> None:
        self._fields = fields
        self._classes = tuple(classes)

    def visit(self, node: ast.expr) -> Answer:
        """Compile a node; only these kinds of nodes exist."""
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise self._problem(node, "is not allowed here: use outputs, earlier fields, arithmetic and comparisons")
        found: Answer = method(node)
        return found

    def _problem(self, node: ast.AST, problem: str) -> InvalidExpression:
        return InvalidExpression(getattr(node, "col_offset", 0) + 1, problem)

    def _constant(self, node: ast.Constant) -> Answer:
        value = node.value
        if isinstance(value, bool | float | str) or (isinstance(value, int) and abs(value) < 2**53):
            return Answer(_kind_of(value), lambda _: value, frozenset(), None)
        raise self._problem(node, "is no number, text, True or False")

    def _name(self, node: ast.Name) -> Answer:
        name = node.id
        if (field := self._fields.get(name)) is not None:
            return Answer(field.kind, lambda values: values.fields[name], field.outputs, field.origin)
        if name not in OUTPUTS:
            known = (*self._fields, *OUTPUTS)
            hint = nearest(name, known) or f": there are {', '.join(known)}"
            raise self._problem(node, f"`{name:.60}` is not known{hint}")
        return Answer(self._kind_of_output(name), lambda values: values.outputs[name], frozenset({name}), Origin(name))

    def _kind_of_output(self, name: str) -> Kind:
        if name == "predict":
            return _kind_of(self._classes[0]) if self._classes else "float"
        if name in ("predict_proba", "predict_log_proba"):
            return "scores" if self._classes else "numbers"
        if name == "decision_function" and len(self._classes) > 2:
            return "scores"
        return "numbers" if name == "transform" else "float"

    def _subscript(self, node: ast.Subscript) -> Answer:
        whole = self.visit(node.value)
        if whole.origin is None or whole.origin.column is not None:
            raise self._problem(node, "only outputs of the estimator have columns")
        name = whole.origin.output
        column = self._column(node.slice, name)
        kind: Kind = "float" if whole.kind in ("scores", "numbers") else whole.kind
        compute = whole.compute
        if isinstance(column, int) and not isinstance(column, bool) and self._is_number(node.slice):
            number = column
            return Answer(
                kind,
                lambda values: operations.column(compute(values), number, name),
                whole.outputs,
                Origin(name, column),
            )
        label = column
        return Answer(
            kind,
            lambda values: operations.column(compute(values), operations.index_of(label, values.labels), name),
            whole.outputs,
            Origin(name, self._classes.index(label)),
        )

    @staticmethod
    def _is_number(index: ast.expr) -> bool:
        return isinstance(index, ast.Tuple)

    def _column(self, index: ast.expr, output: str) -> Scalar:
        """A number from ``[:, 1]``, or a label from ``["yes"]``."""
        form = f'write {output}[:, 1] for a column, or {output}["label"] for the one of a label'
        if isinstance(index, ast.Tuple):
            rows, *columns = index.elts
            if len(columns) != 1 or not (isinstance(rows, ast.Slice) and not (rows.lower or rows.upper or rows.step)):
                raise self._problem(index, form)
            number = _literal(columns[0])
            if isinstance(number, bool) or not isinstance(number, int) or not -1000 <= number < 100_000:
                raise self._problem(columns[0], f"is no number of a column: {form}")
            if self._classes and output in _BY_LABEL and not -len(self._classes) <= number < len(self._classes):
                raise self._problem(
                    columns[0], f"there are {len(self._classes)} columns, one for each of model.classes"
                )
            return number
        label = _literal(index)
        if label is None:
            raise self._problem(index, form)
        if output not in _BY_LABEL or not self._classes:
            raise self._problem(index, f"the columns of {output} have no labels: write {output}[:, 0]")
        if not any(label == one and isinstance(label, bool) == isinstance(one, bool) for one in self._classes):
            known = ", ".join(map(repr, self._classes[:20]))
            hint = nearest(str(label), map(str, self._classes)) if isinstance(label, str) else ""
            raise self._problem(index, f"{label!r:.60} is no label of the model{hint or f': there are {known}'}")
        return label

    def _unaryop(self, node: ast.UnaryOp) -> Answer:
        operand = self.visit(node.operand)
        if isinstance(node.op, ast.Not):
            self._require(node, operand, ("bool",), "`not` takes true or false, such as a comparison")
            return self._combined("bool", operations.negate, operand)
        if isinstance(node.op, ast.USub | ast.UAdd):
            self._require(node, operand, ("float", "int"), "a sign takes a number")
            sign = operations.minus if isinstance(node.op, ast.USub) else operations.plus
            return self._combined(operand.kind, sign, operand)
        raise self._problem(node, "is not allowed: use +, - or not")

    def _binop(self, node: ast.BinOp) -> Answer:
        operator = operations.ARITHMETIC.get(type(node.op).__name__)
        if operator is None:
            raise self._problem(node, "this operator is not allowed: use + - * / // %")
        left, right = self.visit(node.left), self.visit(node.right)
        for part, answer in ((node.left, left), (node.right, right)):
            self._require(part, answer, _NUMBERS, "arithmetic takes numbers")
        whole = {left.kind, right.kind} <= {"int", "bool"} and not isinstance(node.op, ast.Div)
        return self._combined("int" if whole else "float", operator, left, right)

    def _compare(self, node: ast.Compare) -> Answer:
        operands = [node.left, *node.comparators]
        answers = [self.visit(one) for one in operands]
        result: Answer | None = None
        for position, operator in enumerate(node.ops):
            function = operations.COMPARISONS.get(type(operator).__name__)
            left, right = answers[position], answers[position + 1]
            if function is None:
                raise self._problem(operands[position], "this comparison is not allowed: use == != < <= > >=")
            for part, answer in zip(operands[position : position + 2], (left, right), strict=True):
                self._require(part, answer, _SCALARS, "a comparison takes numbers or texts: choose a column")
            if (left.kind == "text") != (right.kind == "text"):
                raise self._problem(operands[position], "a text is compared with a number")
            one = self._combined("bool", function, left, right)
            result = one if result is None else self._combined("bool", operations.both, result, one)
        assert result is not None
        return result

    def _boolop(self, node: ast.BoolOp) -> Answer:
        function = operations.both if isinstance(node.op, ast.And) else operations.either
        result = self.visit(node.values[0])
        self._require(node.values[0], result, ("bool",), "`and` and `or` take true or false, such as comparisons")
        for part in node.values[1:]:
            answer = self.visit(part)
            self._require(part, answer, ("bool",), "`and` and `or` take true or false, such as comparisons")
            result = self._combined("bool", function, result, answer)
        return result

    def _ifexp(self, node: ast.IfExp) -> Answer:
        condition, one, other = (self.visit(part) for part in (node.test, node.body, node.orelse))
        self._require(node.test, condition, ("bool",), "`if` takes true or false, such as a comparison")
        for part, answer in ((node.body, one), (node.orelse, other)):
            self._require(part, answer, _SCALARS, "`if` chooses between numbers or texts")
        return self._combined(self._common(node.orelse, one, other), operations.choose, condition, one, other)

    def _common(self, node: ast.expr, one: Answer, other: Answer) -> Kind:
        if one.kind == other.kind:
            return one.kind
        if "text" in (one.kind, other.kind):
            raise self._problem(node, "is of another type than what it is compared with or chosen against")
        return "float" if "float" in (one.kind, other.kind) else "int"

    def _call(self, node: ast.Call) -> Answer:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        known = (*operations.FUNCTIONS, "max", "min", "round", "top")
        if name not in known:
            hint = nearest(name, known) or f": there are {', '.join(sorted(known))}"
            raise self._problem(node, f"there is no such function{hint}")
        if node.keywords:
            raise self._problem(node, f"{name} takes no named arguments")
        arguments = [self.visit(one) for one in node.args]
        if name in ("round", "top"):
            return (self._round if name == "round" else self._top)(node, arguments)
        count = 2 if name in ("max", "min") else 1
        if len(arguments) != count:
            raise self._problem(node, f"{name} takes {count} argument{'s' if count > 1 else ''}")
        accepted = _SCALARS if name == "text" else _NUMBERS
        for part, answer in zip(node.args, arguments, strict=True):
            self._require(part, answer, accepted, f"{name} takes {'one value' if name == 'text' else 'numbers'}")
        if name in ("max", "min"):
            return self._combined(self._common(node.args[1], *arguments), operations.EXTREMES[name], *arguments)
        function, kind = operations.FUNCTIONS[name]
        found = self._combined(kind or arguments[0].kind, function, *arguments)
        return found._replace(origin=arguments[0].origin) if name in ("float", "int", "bool") else found

    def _round(self, node: ast.Call, arguments: list[Answer]) -> Answer:
        digits = _whole(node.args[1], 0, 15) if len(node.args) == 2 else None
        if len(arguments) not in (1, 2) or (len(arguments) == 2 and digits is None):
            raise self._problem(node, "write round(x) for an integer, or round(x, 2) with 0 to 15 digits")
        self._require(node.args[0], arguments[0], ("float", "int"), "round takes a number: choose a column")
        if digits is None:
            return self._combined("int", operations.to_rounded_integer, arguments[0])
        found = self._combined(arguments[0].kind, lambda value: operations.rounded(value, digits), arguments[0])
        return found._replace(origin=arguments[0].origin)

    def _top(self, node: ast.Call, arguments: list[Answer]) -> Answer:
        count = _whole(node.args[1], 1, 100) if len(node.args) == 2 else None
        if count is None:
            raise self._problem(node, "write top(predict_proba, 3), with 1 to 100 labels")
        scores = arguments[0]
        self._require(node.args[0], scores, ("scores",), "top takes an output with a column for each of model.classes")
        compute = scores.compute
        return Answer(
            "ranking",
            lambda values: operations.ranking(compute(values), values.labels, count),
            scores.outputs,
            None if scores.origin is None else Origin("top", scores.origin.output),
        )

    def _require(self, node: ast.AST, answer: Answer, kinds: Sequence[str], problem: str) -> None:
        if answer.kind not in kinds:
            raise self._problem(node, f"{problem}; this is {operations.WORDS[answer.kind]}")

    @staticmethod
    def _combined(kind: Kind, function: Callable[..., Any], *parts: Answer) -> Answer:
        computes = [part.compute for part in parts]
        outputs = frozenset[str]().union(*(part.outputs for part in parts))
        return Answer(kind, lambda values: function(*(compute(values) for compute in computes)), outputs, None)


def _kind_of(value: Scalar) -> Kind:
    if isinstance(value, bool):
        return "bool"
    return "int" if isinstance(value, int) else "float" if isinstance(value, float) else "text"


def _whole(node: ast.expr, least: int, most: int) -> int | None:
    """The value of a constant integer between two limits; None for anything else."""
    value = _literal(node)
    return value if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most else None


def _literal(node: ast.expr) -> Scalar | None:
    """The value of a constant, with its sign; None for anything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand)
        return -value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
        return node.value
    return None
