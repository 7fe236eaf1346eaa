"""The page of commands: each with its arguments, options, defaults and examples, as `--help` has them."""

import re
from collections.abc import Iterator
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from inflight.cli import app
from inflight.reference import markdown
from inflight.reference.markdown import code, table

_INTRO = (
    "Every command has `--help`. Data for machines comes with `--json`, where a command has it. Exit codes: 0 "
    "done or yes; 1 the answer is no, or a job failed; 2 something outside the command is missing or wrong. "
    "Settings are variables: [settings](settings.md)."
)


def tree() -> Any:
    """The command line, as click's commands."""
    return typer.main.get_command(app)


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command with the words that lead to it, in the order of `--help`; hidden ones are left out."""
    if hasattr(command, "commands"):
        for name, one in command.commands.items():
            if not one.hidden:
                yield from leaves(one, (*path, name))
    else:
        yield path, command


def page() -> str:
    """The page."""
    return markdown.page("Commands", _INTRO, (_section(path, command) for path, command in leaves(tree())))


def _section(path: tuple[str, ...], command: Any) -> str:
    parameters = [one for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    options = [one for one in parameters if one.param_type_name == "option"]
    hints = get_type_hints(command.callback)
    usage = " ".join(
        ["inflight", *path, *(["[OPTIONS]"] if options else []), *(_metavar(one) for one in arguments)],
    )
    parts = [
        f"## inflight {' '.join(path)}",
        _text(command.help or ""),
        f"```\n{usage}\n```",
        table(("argument", "meaning"), [(code(_metavar(one)), _text(one.help or "")) for one in arguments]),
        table(("option", "value", "default", "meaning"), [_option(one, hints[one.name]) for one in options]),
        _text(command.epilog or ""),
    ]
    return "\n\n".join(part for part in parts if part)


def _metavar(argument: Any) -> str:
    name = str(argument.metavar or argument.name.upper())
    name += "..." if argument.nargs == -1 else ""
    return name if argument.required else f"[{name}]"


def _option(option: Any, annotation: Any) -> tuple[str, str, str, str]:
    names = ", ".join(code(name) for name in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else _value(option, annotation)
    default = getattr(option.default, "value", option.default)
    shown = "" if default is None or callable(default) or default is False or option.multiple else code(str(default))
    return names, value, "required" if option.required else shown, _text(option.help or "")


def _value(option: Any, annotation: Any) -> str:
    """What an option takes: its choices, or its name in the help with its bounds."""
    optional = get_origin(annotation) in (Union, UnionType)
    kinds = [one for one in get_args(annotation) if one is not NoneType] if optional else [annotation]
    if isinstance(kinds[0], type) and issubclass(kinds[0], Enum):
        return ", ".join(code(one.value) for one in kinds[0])
    if get_origin(kinds[0]) is Literal:
        return ", ".join(map(code, get_args(kinds[0])))
    bounds = [f"{sign} {one}" for sign, one in ((">=", option.min), ("<=", option.max)) if one is not None]
    return ", ".join([option.metavar or {int: "integer", float: "number"}.get(kinds[0], "text"), *bounds])


def _text(text: str) -> str:
    """Help as Markdown: rich's bold marks what is typed."""
    text = re.sub(r"\[bold\](.*?)\[/bold\]", r"`\1`", text, flags=re.DOTALL).replace("\b\n", "").replace("\\[", "[")
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(markdown.prose(one) for one in paragraphs)
