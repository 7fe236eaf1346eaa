"""Input files of a scoring: found by paths, folders, patterns and URLs, and opened through pyarrow's file systems."""

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast

from msgspec import Struct

from machine_learning_engineering.core.extras import require

__all__ = ["InputFile", "InputRefused", "file_system", "find_inputs", "open_input"]

Format = Literal["parquet", "arrow", "orc", "csv", "jsonl"]
_FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".orc": "orc",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
_PATTERN = "*?["


class InputRefused(ValueError):
    """An input can't be scored. The message names the file and the fix."""


class InputFile(Struct, frozen=True):
    """A file: its path or URL, size in bytes, and time of modification in nanoseconds since 1970, 0 if unknown."""

    path: str
    size: int
    modified: int
    format: Format


def find_inputs(sources: Sequence[str]) -> list[InputFile]:
    """Files of paths, folders, patterns and URLs, in the order given; those of a folder or pattern by name.

    A folder is read with its subfolders; files and folders whose names begin with ``.`` or ``_`` are left out, as Spark
    and Arrow do. The ending of a name tells the format; ``.csv`` and ``.jsonl`` may be compressed, as ``.csv.gz``.

    Args:
        sources: Such as ``orders.parquet``, ``orders/``, ``orders/2026-*.csv`` or ``s3://bucket/orders/``.

    Raises:
        InputRefused: There is no such file, it is twice in the list, or its format is not known.
        ImportError: pyarrow is not installed.
    """
    require("pyarrow.fs", "parquet")
    found: dict[str, InputFile] = {}
    for source in sources:
        files = list(_find(source))
        if not files:
            raise InputRefused(f"{source}: there is no such file, or no file in it: check the path, and quote patterns")
        for path, info in files:
            if path in found:
                raise InputRefused(f"{path} is among the inputs twice: name it once")
            modified = info.mtime_ns or 0
            found[path] = InputFile(path, info.size or 0, modified, _format(path))
    return list(found.values())


def file_system(source: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it.

    Raises:
        InputRefused: The URL has a scheme that is not known, or is not complete.
    """
    fs = require("pyarrow.fs", "parquet")
    if "://" not in source:
        return fs.LocalFileSystem(), str(Path(source).absolute())
    try:
        return cast(tuple[Any, str], fs.FileSystem.from_uri(source))
    except (ValueError, OSError, NotImplementedError) as error:
        raise InputRefused(f"{_without_query(source)} can't be opened: {_reason(error, source)}") from None


@contextmanager
def open_input(file: InputFile) -> Iterator[BufferedReader]:
    """Open a file to read its bytes, decompressed if its name says so."""
    system, path = file_system(file.path)
    compression = "detect" if path.endswith(_COMPRESSED) else None
    with system.open_input_stream(path, compression=compression) as stream:
        # Held until the end: the stream is closed with it.
        yield BufferedReader(stream)


def _find(source: str) -> Iterator[tuple[str, Any]]:
    """Path or URL and information of each file of a source."""
    fs = require("pyarrow.fs", "parquet")
    system, path = file_system(source if "://" in source else source.rstrip("/") or "/")
    prefix, _, query = source.partition("?") if "://" in source else (source, "", "")
    query = f"?{query}" if query else ""
    if "://" not in source and any(sign in source for sign in _PATTERN) and not Path(source).exists():
        for match in sorted(glob.glob(source, recursive=True)):  # noqa: PTH207 (Path.glob takes no absolute pattern)
            # A folder that the pattern names may be hidden, such as `..`.
            matched = [part for part in Path(match).parts if part not in Path(source).parts]
            if Path(match).is_file() and not any(map(_hidden, matched)):
                yield from _find(match)
        return
    try:
        if "*" in path:
            base = path.partition("*")[0].rpartition("/")[0]
            infos = system.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
            infos = [one for one in infos if fnmatch(one.path, path)]
        else:
            [info] = system.get_file_info([path])
            if info.type == fs.FileType.File:
                shown = source if "://" in source else str(Path(source))
                yield shown, info
                return
            base = path
            infos = system.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    except OSError as error:
        raise InputRefused(f"{_without_query(source)} can't be listed: {_reason(error, source)}") from None
    root = prefix[: prefix.rindex(base) + len(base)] if "://" in source and base in prefix else str(Path(prefix))
    for info in sorted(infos, key=lambda one: str(one.path)):
        inside = PurePosixPath(info.path).relative_to(base).as_posix()
        if info.type == fs.FileType.File and not any(map(_hidden, inside.split("/"))):
            yield f"{root.rstrip('/')}/{inside}{query}", info


def _hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _without_query(source: str) -> str:
    """A URL without its options and user, which may hold keys."""
    scheme, separator, rest = source.partition("?")[0].partition("://")
    return scheme + separator + rest.rpartition("@")[2] if separator else source


def _reason(error: Exception, source: str) -> str:
    return str(error).replace(source, _without_query(source))[:500]


def _format(path: str) -> Format:
    name = path.partition("?")[0].lower() if "://" in path else path.lower()
    ending = PurePosixPath(name).suffix
    if ending in _COMPRESSED and (inner := _FORMATS.get(PurePosixPath(name[: -len(ending)]).suffix)) in (
        "csv",
        "jsonl",
    ):
        return inner
    if (found := _FORMATS.get(ending)) is None:
        known = ", ".join(sorted(_FORMATS))
        raise InputRefused(f"{_without_query(path)} is not one of {known}: rename it, or leave it out with a pattern")
    return found
