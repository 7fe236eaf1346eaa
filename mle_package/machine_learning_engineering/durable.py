"""Files and folders that, after a crash at any moment, are either absent or whole."""

import os
import uuid
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write a file through to the disk. Not atomic by itself: for a path that nobody reads yet."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, content: bytes) -> None:
    """Make a file hold `content`; whoever reads it meanwhile sees the old content or the new one."""
    partial = path.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        write(partial, content)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
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
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
