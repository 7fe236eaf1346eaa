"""The manual page `inflight(1)`, generated from the command line's own help."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

_MARKUP = re.compile(r"\[/?(?:bold|italic|dim|cyan|green|red|yellow)\]")


def manual_page(command: Any, version: str, moment: int) -> str:
    """The page in roff.

    Args:
        command: the click command of the whole command line.
        version: of the product.
        moment: seconds since the epoch, for the date of the page.
    """
    date = datetime.fromtimestamp(moment, UTC).date().isoformat()
    lines = [
        f'.TH INFLIGHT 1 "{date}" "Inflight {version}" "User Commands"',
        ".SH NAME",
        f"inflight \\- {_text(command.help.split(':')[0].lower())}",
        ".SH SYNOPSIS",
        ".B inflight",
        "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGS\\fR]...",
        ".SH DESCRIPTION",
        *_paragraphs(command.help),
        ".SH OPTIONS",
        *_parameters(command),
        ".SH COMMANDS",
    ]
    for words, found in _commands(command, ()):
        usage = " ".join(one for part in found.params if (one := _usage(part)))
        lines += [f'.SS "{" ".join(("inflight", *words, _text(usage))).strip()}"']
        lines += [*_paragraphs(found.help or ""), *_parameters(found), *_paragraphs(found.epilog or "")]
    lines += [
        ".SH ENVIRONMENT",
        "INFLIGHT_* variables, or the file in INFLIGHT_ENV_FILE, are the settings of all processes.",
        ".SH EXIT STATUS",
        "0 on success, 1 if the answer is no or a job failed, 2 if something outside the command is missing or wrong.",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that call it."""
    for name, found in sorted(getattr(command, "commands", {}).items()):
        if found.hidden:
            continue
        if hasattr(found, "commands"):
            yield from _commands(found, (*words, name))
        else:
            yield (*words, name), found


def _usage(parameter: Any) -> str:
    if parameter.param_type_name != "argument":
        return ""
    name = (parameter.metavar or parameter.name or "").upper()
    return name if parameter.required else f"[{name}]"


def _parameters(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        if parameter.param_type_name == "argument":
            label = f"\\fI{_text((parameter.metavar or parameter.name).upper())}\\fR"
        else:
            label = ", ".join(f"\\fB{_text(one)}\\fR" for one in [*parameter.opts, *parameter.secondary_opts])
        yield ".TP"
        yield label
        yield _text(getattr(parameter, "help", None) or "") or "."


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph:
            yield ".PP"
            yield _text(paragraph)


def _text(text: str) -> str:
    """Plain text for roff: one line, without rich's markup, with what roff would read as a command escaped."""
    plain = " ".join(_MARKUP.sub("", text).replace("\b", "").split())
    escaped = plain.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")
    return "\\&" + escaped if escaped.startswith(".") else escaped
