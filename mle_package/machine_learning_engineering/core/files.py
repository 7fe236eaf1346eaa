"""Files and folders that, after a crash at any moment, are either absent or whole, and files of lines."""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write a file through to the disk. Not atomic by itself: for a path that nobody reads yet."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, content: bytes) -> None:
    """Make a file hold `content`; whoever reads it meanwhile sees the old content or the new one."""
    with replacing(path) as partial:
        write(partial, content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path for a file that takes the place of `path` at the end of the `with`, through to the disk.

    If anything is raised, `path` is as it was before.
    """
    partial = path.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append(path: Path, lines: bytes) -> None:
    """Add whole lines to a file, safely on disk when this returns. Several processes may append at once.

    A last line that a crash cut off is ended first, so that it spoils no other.

    Raises:
        OSError: they can't be written; then the file is as it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unbuffered: nothing is left over to be written when the file is closed.
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
    sync_folder(path.parent)


def rename_if_absent(source: Path, target: Path) -> bool:
    """Give a folder, which is not empty, its final name; False if the name is taken."""
    sync_folder(source)
    try:
        # Renaming onto a folder that is not empty fails, so that of two that try one wins.
        source.rename(target)
    except OSError:
        if target.exists():
            return False
        raise
    sync_folder(target.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Write the names within a folder through to the disk."""
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
