"""A local folder as a store: durable, private, and locked with ``flock`` while a file is edited."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.storage.store import StoredKey


class _LockedFile:
    """A file whose folder is locked, so nobody else writes it."""

    def __init__(self, path: Path, content: bytes | None) -> None:
        self._path = path
        self.content = content

    def replace(self, content: bytes) -> None:
        durable.replace(self._path, content)


class LocalStore:
    """Files below a folder; see `storage.store.Store`. The folder is created by the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """Read a file; neither it nor its folder may be a link out of the store."""
        path = self.root / key
        if key.count("/") > 1 and path.parent.is_symlink():
            raise OSError(
                errno.ELOOP, "the folder of a version is a symbolic link, which is not followed", str(path.parent)
            )
        with os.fdopen(durable.open_private(path, os.O_RDONLY), "rb") as file:
            if max_bytes is not None and os.fstat(file.fileno()).st_size > max_bytes:
                raise OSError(errno.EFBIG, f"more than {max_bytes:,} bytes", str(path))
            return file.read()

    def stamp(self, key: str) -> str | None:
        try:
            found = (self.root / key).stat()
        except OSError:
            return None
        # A file that replaces another has another number.
        return f"{found.st_mtime_ns}-{found.st_ino}"

    def write_if_absent(self, key: str, content: bytes) -> bool:
        path = self.root / key
        durable.make_folder(path.parent)
        partial = path.with_name(f".partial-{uuid.uuid4().hex}")
        try:
            durable.write(partial, content)
            try:
                os.link(partial, path)
            except FileExistsError:
                return self.read(key) == content
        finally:
            partial.unlink(missing_ok=True)
        durable.sync(path.parent)
        return True

    @contextmanager
    def edit(self, key: str) -> Iterator[_LockedFile]:
        path = self.root / key
        with durable.lock(path.parent):
            try:
                content = self.read(key)
            except FileNotFoundError:
                content = None
            yield _LockedFile(path, content)

    def write_folder(self, key: str, contents: Mapping[str, bytes]) -> bool:
        target = self.root / key
        durable.make_folder(target.parent)
        temporary = target.parent / f".saving-{uuid.uuid4().hex}"
        temporary.mkdir(mode=0o700)
        try:
            for file, content in contents.items():
                durable.write(temporary / file, content)
            written = durable.rename_if_absent(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        if not written:
            shutil.rmtree(temporary, ignore_errors=True)
        return written

    def folders(self, key: str) -> list[str]:
        folder = self.root / key
        # Not only folders: a file in place of one is damage, which is reported and not skipped.
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    def complete_folders(self, key: str, last: str) -> list[str]:
        # A folder gets its name when it is complete; one that lost its last file since is damage.
        return self.folders(key)

    def files(self, key: str) -> Iterator[StoredKey]:
        folder = self.root / key
        for path in folder.rglob("*") if folder.is_dir() else ():
            if path.is_file() and not path.is_symlink():
                found = path.stat()
                name = path.relative_to(self.root).as_posix()
                yield StoredKey(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def remove(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def touch(self, key: str) -> bool:
        path = self.root / key
        if not path.exists():
            return False
        path.touch()
        return True
