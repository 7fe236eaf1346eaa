"""A cache of files by their SHA-256 in a local folder, bounded in size. What is damaged counts as missing."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from machine_learning_engineering.core import files as durable


class FileCache:
    """Any number of processes may share one. A folder that can't be written is no error: nothing is kept then.

    Args:
        folder: Created if it is missing.
        max_bytes: The files that were used last stay.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def get(self, sha256: str) -> bytes | None:
        """The file with this digest, which is checked; None if it is not here."""
        path = self._path(sha256)
        if path is None:
            return None
        try:
            with os.fdopen(durable.open_private(path, os.O_RDONLY), "rb") as file:
                content = file.read()
        except OSError:
            return None
        if hashlib.sha256(content).hexdigest() != sha256:
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            path.touch()
        return content

    def put(self, sha256: str, content: bytes) -> None:
        """Keep a file whose digest was checked."""
        path = self._path(sha256)
        if path is None or len(content) > self._max_bytes:
            return
        with suppress(OSError):
            durable.make_folder(self._folder)
            durable.replace(path, content)
            self._evict()

    def _path(self, sha256: str) -> Path | None:
        # Digests come from manifests.
        return self._folder / sha256 if len(sha256) == 64 and sha256.isalnum() and sha256.isascii() else None

    def _evict(self) -> None:
        found = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                about = path.lstat()
                found.append((about.st_mtime, about.st_size, path))
        size = sum(one[1] for one in found)
        for _, bytes_of_file, path in sorted(found):
            if size <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            size -= bytes_of_file
