"""Crash-safe, private files: after a crash at any moment, a file or folder is either absent or complete.

Files hold requests, labels and what models learned from them, so only their owner may read them, whatever the umask.
Files in folders that others may write to are never opened through a symbolic link.
"""

import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_folder(path: Path) -> None:
    """Create a folder that only its owner may enter, unless it exists. Missing parents are private too."""
    for parent in reversed(path.parents):
        # Not `parents=True`, which gives the parents the mode of the umask.
        if not parent.exists():
            parent.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def open_private(path: Path, flags: int) -> int:
    """Open a file that only its owner may read, and return the descriptor.

    Raises:
        OSError: It can't be opened, or it is a symbolic link: whoever may write the folder could point it at any file.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "a symbolic link is not followed: remove it", str(path)) from None
        raise


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the exclusive lock of a folder, the file ``.lock`` in it; both are created if they are missing."""
    make_folder(folder)
    descriptor = open_private(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes) -> None:
    """Write a file and sync it to disk. Not atomic: only for a path that no one reads yet."""
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
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
        partial.chmod(0o600)
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
    make_folder(path.parent)
    # Unbuffered: nothing remains to be written when the file is closed.
    with os.fdopen(open_private(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), "a+b", buffering=0) as file:
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
