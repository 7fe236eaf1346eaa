"""Crash-safe files: after a crash at any moment, a file or folder is either absent or complete."""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write a file and sync it to disk. Not atomic: only for a path that no one reads yet."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, content: bytes) -> None:
    """Replace the content of a file atomically: a concurrent reader sees either the old content or the new."""
    with replacing(path) as partial:
        write(partial, content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path whose file atomically replaces `path` when the block ends.

    If the block raises, `path` is unchanged.
    """
    partial = path.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def append(path: Path, lines: bytes) -> None:
    """Append lines to a file and sync it to disk. Several processes may append at once.

    A last line that a crash truncated is terminated first, so that it corrupts no other line.

    Args:
        path: The file; it and its folder are created if they are missing.
        lines: Complete lines, each with its line break.

    Raises:
        OSError: The lines cannot be written. The file is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unbuffered: nothing remains to be written when the file is closed.
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                lines = b"\n" + lines
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[file.write(rest) or 0 :]
            os.fsync(file.fileno())
        except OSError:
            os.truncate(file.fileno(), end)
            raise
    sync(path.parent)


def rename_if_absent(source: Path, target: Path) -> bool:
    """Rename a non-empty folder to its final name; return False if the name is taken."""
    sync(source)
    try:
        # Renaming onto a non-empty folder fails: of two processes that try, one succeeds.
        source.rename(target)
    except OSError:
        if target.exists():
            return False
        raise
    sync(target.parent)
    return True


def sync(path: Path) -> None:
    """Sync a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
