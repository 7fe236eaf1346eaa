"""The files of a registry: in a folder or an object store, cached and signed. It opens no model.

Layout: ``<registry>/<name>/<version>/{model.skops,profile.json,similar.jsonl,manifest.json}`` and
``<registry>/<name>/aliases.json``.

Behind a URL, files of versions are cached by their digests, and what was read of aliases, manifests and lists is kept:
while the store is unavailable, that is used in their place.
"""

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.registry.signing import Signer
from machine_learning_engineering.registry.uri import NAME
from machine_learning_engineering.storage.cache import FileCache
from machine_learning_engineering.storage.location import Place
from machine_learning_engineering.storage.opening import local_path, open_store
from machine_learning_engineering.storage.store import StoreUnavailable

logger = logging.getLogger(__name__)

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""Maximum size of a manifest or alias file behind a URL."""

_decode_names = msgspec.json.Decoder(list[str]).decode


class RegistryFiles:
    """Files of one registry.

    Raises:
        StoreUnavailable: A URL needs the extra `stores`, or the cloud's variables are incomplete.
    """

    def __init__(self, place: Place) -> None:
        self.store = open_store(place)
        self.signer: Signer | None = None
        self.problem = ""
        """Why the store is unavailable and what was kept of it is used; empty otherwise."""
        self._local = local_path(place)
        self._cache: FileCache | None = None
        self._kept: Path | None = None
        self._last: dict[str, bytes] = {}
        if isinstance(place, Path):
            return
        if place.keys:
            self.signer = Signer(place.keys)
        if place.cache is not None:
            self._kept = place.cache / hashlib.sha256(place.url.encode()).hexdigest()[:16]
            if self._local is None:
                self._cache = FileCache(place.cache / "files", place.cache_bytes)

    @property
    def url(self) -> str:
        return self.store.url

    @property
    def path(self) -> Path | None:
        """The folder, if it is a local one."""
        return self._local

    def names(self) -> list[str]:
        """Names of the folders of models, sorted."""
        return sorted(filter(NAME.fullmatch, self._list("", "")))

    def folders(self, name: str, last: str) -> list[str]:
        """Names of the folders of a model that are complete, in no order."""
        return self._list(name, last)

    def stamp(self, key: str) -> str | None:
        """What differs after each change of a file; None if there is no such file."""
        return self._or_kept(f"{key}.stamp", lambda: (self.store.stamp(key) or "").encode()).decode() or None

    def document(self, key: str, subject: str) -> bytes:
        """Read an alias file or a manifest, and verify its signature if there is a key.

        Raises:
            FileNotFoundError: There is none.
            SignatureRefused: The signature is missing or wrong.
            StoreUnavailable: The store is unavailable, and the file was never read before.
        """

        def read() -> bytes:
            content = self.store.read(key, None if self._local else MAX_DOCUMENT_BYTES)
            self.verify(content, key, subject)
            return content

        return self._or_kept(key, read)

    def verify(self, content: bytes, key: str, subject: str) -> None:
        """Verify a signature, if there is a key. Raises `SignatureRefused`."""
        if self.signer is not None:
            self.signer.verify(content, subject, f"{self.url}/{key}")

    def sign(self, document: bytes, subject: str) -> bytes:
        """Sign an indented JSON object, if there is a key."""
        return document if self.signer is None else self.signer.sign(document, subject)

    def content(self, key: str, sha256: str, size: int, *, fresh: bool = False) -> bytes:
        """Read a file of a version, from the cache if it is there. The caller checks its digest.

        Args:
            size: In bytes; more are not read from an object store.
            fresh: Read it from the store even so.
        """
        if self._cache is None:
            return self.store.read(key)
        if not fresh and (cached := self._cache.get(sha256)) is not None:
            return cached
        content = self.store.read(key, size)
        if hashlib.sha256(content).hexdigest() == sha256:
            self._cache.put(sha256, content)
        return content

    def highest_revision(self, name: str) -> int:
        """The highest revision of a model's signed aliases that this machine has read; 0 for none."""
        try:
            return 0 if self._kept is None else int((self._kept / f"{name}.revision").read_bytes())
        except (OSError, ValueError):
            return 0

    def note_revision(self, name: str, revision: int) -> None:
        """Remember a revision that was read."""
        if self._kept is not None and revision > self.highest_revision(name):
            self._keep(f"{name}.revision", b"%d" % revision)

    def _list(self, key: str, last: str) -> list[str]:
        def read() -> bytes:
            found = self.store.complete_folders(key, last) if last else self.store.folders(key)
            return msgspec.json.encode(sorted(found))

        content = self._or_kept(f"{key}.list", read)
        try:
            return _decode_names(content)
        except ValueError:  # What was kept is damaged.
            raise StoreUnavailable(self.problem) from None

    def _or_kept(self, what: str, read: Callable[[], bytes]) -> bytes:
        """Read and keep; if the store is unavailable, what was kept."""
        if self._local is not None or self._kept is None:
            return read()
        file = what.replace("/", "+")
        try:
            content = read()
        except StoreUnavailable as error:
            try:
                content = (self._kept / file).read_bytes()
            except OSError:
                raise error from None
            if not self.problem:
                logger.warning("%s; what was read of it before is used, from %s", error, self._kept.parent)
            self.problem = str(error)
            return content
        if self.problem:
            logger.info("%s is back", self.url)
            self.problem = ""
        if self._last.get(what) != content:
            self._keep(file, content)
            self._last[what] = content
        return content

    def _keep(self, file: str, content: bytes) -> None:
        assert self._kept is not None
        with suppress(OSError):  # A read-only home: nothing is kept.
            durable.make_folder(self._kept)
            durable.replace(self._kept / file, content)
