"""Fenced blocks of the documentation, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "mle_package/README.md",
        *ROOT.glob("deploy/**/*.md"),
    )
    # The decisions tell what was, and the changelog what is no more.
    if path.name != "CHANGELOG.md" and path.parent.name != "decisions"
)
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_DRAWN = re.compile(r"[─┐┘│├┬▼▲●▁→]")


class Block(NamedTuple):
    """One fenced block."""

    page: str
    line: int
    kind: str
    text: str


def blocks(*kinds: str) -> list[Block]:
    """The blocks of these languages, of all pages; "" is one without a language."""
    return [
        Block(name(path), text[: found.start()].count("\n") + 1, found[2], _dedent(found[3], found[1]))
        for path in PAGES
        for text in (path.read_text(encoding="utf-8"),)
        for found in _FENCE.finditer(text)
        if found[2] in kinds
    ]


def name(path: Path) -> str:
    """The page's path in the repository."""
    return path.relative_to(ROOT).as_posix()


def commands(program: str) -> Iterator[tuple[str, list[str]]]:
    """Each call of a program in shell blocks and in inline code: where it is, and its arguments."""
    for block in blocks("", "sh", "bash", "console", "ini"):
        text = re.sub(r"\\\n\s*", " ", block.text)
        for line in text.split("\n"):
            if block.kind != "console" or line.startswith("$ "):
                yield from _calls(program, f"{block.page}:{block.line}", line.removeprefix("$ "))
    for path in PAGES:
        text = _FENCE.sub("", path.read_text(encoding="utf-8"))
        for code in _INLINE.findall(text):
            if code.startswith(program + " "):
                yield from _calls(program, name(path), code)


def _calls(program: str, where: str, line: str) -> Iterator[tuple[str, list[str]]]:
    if _DRAWN.search(line):
        return
    line = re.sub(r"\s#\s.*$", "", line).removeprefix("ExecStart=")
    inner = re.findall(rf"\$\(({program}[^)]*)\)", line)
    for part in [*re.split(r"\s(?:\|\||&&|\||;)\s|;\s", line), *inner]:
        # Variables that stand before the command.
        part = re.sub(r"^\s*(?:[A-Z_]+=(?:'[^']*'|\"[^\"]*\"|\S*)\s+)*", "", part)
        if not re.match(rf"(?:\S*/)?{program}(?:\s|$)", part):
            continue
        try:
            words = shlex.split(part)[1:]
        except ValueError:
            words = part.split()[1:]
        yield where, _arguments(words)


def _arguments(words: list[str]) -> list[str]:
    """Without redirections, and up to an ellipsis."""
    found: list[str] = []
    skip = False
    for word in words:
        if word in ("...", "…"):
            # Of an option it is the value.
            return [*found, word] if found and found[-1].startswith("--") else found
        if skip or re.fullmatch(r"\d?>+|<|2>&1|&", word):
            skip = bool(re.fullmatch(r"\d?>+|<", word))
            continue
        found.append(word)
    return found


def _dedent(text: str, margin: str) -> str:
    return "\n".join(line.removeprefix(margin) for line in text.split("\n"))
