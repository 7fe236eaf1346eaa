"""API keys: random secrets with a name and scopes, stored as digests in a private file.

A key is ``inflight_ID_SECRET``. The secret has 256 random bits, so a plain SHA-256 protects it: no list of guesses can
hold it. Revoked keys stay in the file, so that revoking the last one doesn't open the gateway.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from machine_learning_engineering.core import files
from machine_learning_engineering.events.schemas import Timestamp

Scope = Literal["predict", "label", "read", "admin"]
"""What a key may do: request predictions; report labels; read predictions and models; everything."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"inflight_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class KeysError(RuntimeError):
    """The file of keys can't be used, or there is no such key. The message names the fix."""


class ApiKey(Struct, frozen=True):
    """A stored key. `revoked_at` and `expires_at` are None if it isn't and doesn't."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    created_at: Timestamp
    expires_at: Timestamp | None = None
    revoked_at: Timestamp | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the key has this scope; `admin` includes all."""
        return scope in self.scopes or "admin" in self.scopes

    def is_valid(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class _Stored(Struct, frozen=True, forbid_unknown_fields=True):
    keys: list[ApiKey]


class KeyFile:
    """The keys of a deployment. Several processes may read and edit them at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._by_id: dict[str, ApiKey] = {}
        self.exists = False

    def read(self) -> list[ApiKey]:
        """Read all keys, oldest first.

        Raises:
            KeysError: the file is unreadable.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        try:
            return msgspec.json.decode(content, type=_Stored).keys
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise KeysError(
                f"{self.path} can't be read ({type(error).__name__}): restore it, or remove it and add new keys"
            ) from None

    def add(self, name: str, scopes: Collection[Scope], lifetime: timedelta | None = None) -> tuple[ApiKey, str]:
        """Add a key; return it with its text, which is stored nowhere.

        Raises:
            KeysError: the name is malformed, a valid key has it, or the file is unreadable.
        """
        if not NAME.fullmatch(name):
            raise KeysError(f"{name[:64]!r} can't be the name of a key: use letters, digits, dots, - and _")
        identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        key = ApiKey(
            identity,
            name,
            tuple(scope for scope in SCOPES if scope in scopes),
            _digest(secret),
            now,
            None if lifetime is None else now + lifetime,
        )
        with files.lock(self.path.parent):
            keys = self.read()
            if any(one.name == name and one.is_valid(now) for one in keys):
                raise KeysError(f"there is a key named {name}: revoke it first, or choose another name")
            self._write([*keys, key])
        return key, f"inflight_{identity}_{secret}"

    def revoke(self, name_or_id: str) -> ApiKey:
        """Revoke the valid key with this name or id.

        Raises:
            KeysError: there is none, or the file is unreadable.
        """
        now = datetime.now(UTC)
        with files.lock(self.path.parent):
            keys = self.read()
            for index, key in enumerate(keys):
                if name_or_id in (key.name, key.id) and key.revoked_at is None:
                    keys[index] = revoked = msgspec.structs.replace(key, revoked_at=now)
                    self._write(keys)
                    return revoked
        raise KeysError(f"no key is named {name_or_id[:64]!r}: see inflight keys list")

    def refresh(self) -> None:
        """Read the file again if it has changed.

        Raises:
            KeysError: the file is unreadable; the keys read before stay valid.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            # A gateway that had keys must not open because the file is away for a moment.
            self._by_id, self._stamp = {}, None
            return
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        self.exists = True
        if stamp != self._stamp:
            self._by_id = {key.id: key for key in self.read()}
            self._stamp = stamp

    def find(self, text: str) -> ApiKey | None:
        """The valid key with this text, as of the last `refresh`."""
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        key = self._by_id.get(match[1])
        if key is None or not hmac.compare_digest(key.sha256, _digest(match[2])):
            return None
        return key if key.is_valid(datetime.now(UTC)) else None

    def _write(self, keys: list[ApiKey]) -> None:
        files.replace(self.path, msgspec.json.format(msgspec.json.encode(_Stored(keys)), indent=2))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
