"""An object store as a store of files: S3, Google Cloud Storage, Azure, and servers that speak their protocols.

Conditional writes (``If-None-Match: *``, ``If-Match: ETAG``; generations in GCS) make changes atomic: there are neither
locks nor renames. Credentials and addresses come from the clouds' own environment variables.
"""

import errno
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from machine_learning_engineering.core.extras import require
from machine_learning_engineering.storage.location import Location
from machine_learning_engineering.storage.store import Conflict, StoredKey, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Client

_ADDRESSES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_ATTEMPTS = 3
_TRANSFER_SECONDS = 600
"""Time for one request with its body. A request that receives nothing ends earlier, see `Location.timeout`."""
_QUERY = re.compile(r"\?\S*")
_DENIED = re.compile(r"status code: 40[13]\b")


class _Object:
    """An object and the version of it that was read."""

    def __init__(self, store: "ObjectStore", key: str, content: bytes | None, mode: Any) -> None:
        self._store = store
        self._key = key
        self._mode = mode
        self.content = content

    def replace(self, content: bytes) -> None:
        if not self._store.put(self._key, content, self._mode):
            raise Conflict(f"{self._store.url}/{self._key} was changed by somebody else in the meantime")


class ObjectStore:
    """Objects below a URL; see `storage.store.Store`.

    Raises:
        StoreUnavailable: The extra `stores` is not installed, or the cloud's variables are incomplete, such as Azure's
            without an account.
    """

    def __init__(self, location: Location) -> None:
        self.url = location.url
        try:
            self._obstore = require("obstore", "stores")
        except ImportError as error:
            raise StoreUnavailable(f"{location.url} can't be read: {error}") from error
        self._errors = require("obstore.exceptions", "stores")
        # Only where the address itself says so.
        plain = any(os.environ.get(name, "").startswith("http://") for name in _ADDRESSES)
        from_url = partial(
            require("obstore.store", "stores").from_url,
            location.url,
            client_options={
                "connect_timeout": timedelta(seconds=location.timeout),
                "read_timeout": timedelta(seconds=location.timeout),
                "timeout": timedelta(seconds=_TRANSFER_SECONDS),
                **({"allow_http": True} if plain else {}),
            },
        )
        retries = {
            "max_retries": _ATTEMPTS - 1,
            "retry_timeout": timedelta(seconds=location.timeout),
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=2), "base": 2},
        }
        try:
            self._client: Client = from_url(retry_config=retries)
            # `put` repeats these itself: it has to know whether the first attempt was refused.
            self._conditional: Client = from_url(retry_config=retries | {"max_retries": 0})
        except self._errors.BaseError as error:
            raise self._unavailable(error) from None

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        return self._read(key, max_bytes)[0]

    def stamp(self, key: str) -> str | None:
        with self._translated(key):
            try:
                found = self._obstore.head(self._client, key)
            except (self._errors.NotFoundError, FileNotFoundError) as error:
                self._require_bucket(error)
                return None
        return str(found["e_tag"])

    def write_if_absent(self, key: str, content: bytes) -> bool:
        return self.put(key, content, "create", is_same_enough=True)

    @contextmanager
    def edit(self, key: str) -> Iterator[_Object]:
        try:
            content, found = self._read(key)
        except FileNotFoundError:
            yield _Object(self, key, None, "create")
        else:
            mode = {name: found[name] for name in ("e_tag", "version") if found.get(name) is not None}
            yield _Object(self, key, content, mode)

    def put(self, key: str, content: bytes, mode: Any, *, is_same_enough: bool = False) -> bool:
        """Write an object under a condition.

        The answer to an attempt may be lost. The next one then meets what it has written itself, which is success.

        Args:
            is_same_enough: It is success also if somebody else has written the same content.

        Returns:
            Whether the condition was met.
        """
        for attempt in range(_ATTEMPTS):
            with self._translated(key):
                try:
                    self._obstore.put(self._conditional, key, content, mode=mode, use_multipart=False)
                except (self._errors.AlreadyExistsError, self._errors.PreconditionError, FileExistsError):
                    return (is_same_enough or attempt > 0) and self._holds(key, content)
                except (self._errors.NotFoundError, FileNotFoundError) as error:
                    # The object that was read is gone.
                    self._require_bucket(error)
                    return False
                except self._errors.GenericError:
                    if attempt == _ATTEMPTS - 1:
                        raise
                    time.sleep(0.2 * (attempt + 1))
                    continue
            return True
        raise AssertionError("unreachable")

    def _holds(self, key: str, content: bytes) -> bool:
        try:
            return self.read(key, len(content)) == content
        except StoreUnavailable:
            raise
        except OSError:  # It is gone, or larger.
            return False

    def write_folder(self, key: str, contents: Mapping[str, bytes]) -> bool:
        # Of two writers, one succeeds with the first file in which they differ; it alone goes on to the last one.
        return all(self.write_if_absent(f"{key}/{file}", content) for file, content in contents.items())

    def folders(self, key: str) -> list[str]:
        with self._translated(key):
            found = self._obstore.list_with_delimiter(self._client, key or None)
        return [prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"]]

    def complete_folders(self, key: str, last: str) -> list[str]:
        depth = len(key.split("/"))
        parts = (found.key.split("/") for found in self.files(key))
        return [one[depth] for one in parts if len(one) == depth + 2 and one[-1] == last]

    def files(self, key: str) -> Iterator[StoredKey]:
        with self._translated(key):
            batches = list(self._obstore.list(self._client, key or None))
        for batch in batches:
            for found in batch:
                yield StoredKey(found["path"], found["size"], found["last_modified"])

    def remove(self, key: str) -> None:
        with self._translated(key):
            try:
                self._obstore.delete(self._client, key)
            except (self._errors.NotFoundError, FileNotFoundError) as error:
                self._require_bucket(error)

    def touch(self, key: str) -> bool:
        return False

    def write(self, key: str, content: bytes) -> None:
        """Write an object, whatever is there."""
        with self._translated(key):
            self._obstore.put(self._client, key, content, mode="overwrite", use_multipart=False)

    def _read(self, key: str, max_bytes: int | None = None) -> tuple[bytes, Any]:
        with self._translated(key):
            try:
                found = self._obstore.get(self._client, key)
            except (self._errors.NotFoundError, FileNotFoundError) as error:
                self._require_bucket(error)
                raise FileNotFoundError(errno.ENOENT, "there is no such object", f"{self.url}/{key}") from None
            if max_bytes is not None and found.meta["size"] > max_bytes:
                raise OSError(errno.EFBIG, f"more than {max_bytes:,} bytes", f"{self.url}/{key}")
            return bytes(found.bytes()), found.meta

    def _require_bucket(self, error: Exception) -> None:
        if "NoSuchBucket" in str(error):
            raise StoreUnavailable(f"{self.url}: there is no such bucket: create it, or correct the URL") from None

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except self._errors.NotFoundError as error:
            self._require_bucket(error)
            raise StoreUnavailable(f"{self.url} has no {key}") from None
        except (self._errors.BaseError, PermissionError) as error:
            # Where it lists, the library has no error of its own for these.
            denied = (self._errors.PermissionDeniedError, self._errors.UnauthenticatedError)
            if not isinstance(error, denied) and not _DENIED.search(str(error)):
                raise self._unavailable(error) from None
            raise StoreUnavailable(
                f"{self.url} denies access to {key or 'its list'}: check the credentials (AWS_ACCESS_KEY_ID, "
                "GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY, ...) and their rights to list, read, write"
            ) from None

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        # The first line, without the query of the address, which may be a signature.
        cause = _QUERY.sub("", (str(error).splitlines() or [""])[0])[:300]
        return StoreUnavailable(f"{self.url} does not answer: {cause}")
