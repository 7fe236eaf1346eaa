"""The interface of a store of files, and its errors. Keys are relative, with slashes: ``diamonds/v1/manifest.json``."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import NamedTuple, Protocol


class StoreUnavailable(OSError):
    """The store is unavailable, too slow, or refuses access. The message names its URL and the cause."""


class Conflict(RuntimeError):
    """Somebody else has changed a file since it was read. Read it again."""


class StoredKey(NamedTuple):
    """A file in a store; its size is in bytes."""

    key: str
    size: int
    modified: datetime


class Edit(Protocol):
    """A file that is being changed: what it holds, None if it is missing."""

    content: bytes | None

    def replace(self, content: bytes) -> None:
        """Write the file as a whole.

        Raises:
            Conflict: It is no longer what `content` says.
        """
        ...


class Store(Protocol):
    """Files by key. Any number of threads, processes and, behind a URL, machines may use one at a time.

    Each method raises `StoreUnavailable` if the store does not answer or denies access, other `OSError` if a disk
    fails.
    """

    url: str

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """Read a file.

        Raises:
            FileNotFoundError: There is none.
            OSError: It has more than `max_bytes`.
        """
        ...

    def stamp(self, key: str) -> str | None:
        """What differs after each change of a file, without reading it. None if there is no such file."""
        ...

    def write_if_absent(self, key: str, content: bytes) -> bool:
        """Write a file unless the key is taken by another content. It appears complete."""
        ...

    def edit(self, key: str) -> AbstractContextManager[Edit]:
        """Yield a file for a conditional write. Of two writers that read the same content, one succeeds."""
        ...

    def write_folder(self, key: str, contents: Mapping[str, bytes]) -> bool:
        """Write a folder of files unless its name is taken; it is complete when it has the last of them.

        Returns:
            Whether it was written. After a crash there is either all of it or, for `complete_folders`, nothing.
        """
        ...

    def folders(self, key: str) -> list[str]:
        """Names of the folders in a folder, complete or not; empty if there is no such folder."""
        ...

    def complete_folders(self, key: str, last: str) -> list[str]:
        """Names of the folders in a folder that `write_folder` has finished with the file `last`."""
        ...

    def files(self, key: str) -> Iterator[StoredKey]:
        """All files in a folder and its subfolders, in no order."""
        ...

    def remove(self, key: str) -> None:
        """Remove a file, if there is one."""
        ...

    def touch(self, key: str) -> bool:
        """Set a file's time to now; False if it has to be written instead."""
        ...
