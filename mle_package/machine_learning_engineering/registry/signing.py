"""Signatures of manifests and alias files: HMAC-SHA256 over their bytes and over what they describe.

The signature is the last member of the JSON object, so the file stays readable by any tool. It covers all bytes before
it, and the subject, so that the file of one model or version does not pass for that of another. A manifest holds the
digests of all files of its version.

Whoever holds a key can sign: it protects against those who can write the store but do not have the key.
"""

import hashlib
import hmac
import re

from machine_learning_engineering.registry.manifest import CorruptModel

_END = b"\n}"
_SIGNATURE = re.compile(rb',\n  "signature": "hmac-sha256 ([0-9a-f]{8}) ([0-9a-f]{64})"\n\}\Z')


class SignatureRefused(CorruptModel):
    """A file has no signature, or one by no known key. It was not used."""


class Signer:
    """Signs with the first key and verifies with each of them, so that keys can be changed one after the other."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = {_key_id(key): key.encode() for key in reversed(keys)}
        self._first = _key_id(keys[0])

    def sign(self, document: bytes, subject: str) -> bytes:
        """Add a signature to an indented JSON object."""
        assert document.endswith(_END), "not an indented JSON object"
        body = document.removesuffix(_END)
        signature = f"hmac-sha256 {self._first} {self._digest(self._first, body, subject)}"
        return body + f',\n  "signature": "{signature}"'.encode() + _END

    def verify(self, content: bytes, subject: str, where: str) -> None:
        """Check the signature of a file.

        Raises:
            SignatureRefused: It has none, or a wrong one.
        """
        found = _SIGNATURE.search(content)
        if found is None:
            raise SignatureRefused(
                f"{where} is not signed; it was not used. If it was saved before there was a key: inflight models sign"
            )
        key, digest = found[1].decode(), found[2].decode()
        if key not in self._keys:
            raise SignatureRefused(
                f"{where} is signed with the key {key}, known are {', '.join(self._keys)}; it was not used: add that "
                "key to INFLIGHT_REGISTRY_SIGNING_KEY after the first one"
            )
        if not hmac.compare_digest(digest, self._digest(key, content[: found.start()], subject)):
            raise SignatureRefused(
                f"{where} was changed after it was signed, or belongs elsewhere; it was not used: restore it, or "
                "promote another version"
            )

    def _digest(self, key: str, body: bytes, subject: str) -> str:
        return hmac.new(self._keys[key], f"inflight {subject}\0".encode() + body, hashlib.sha256).hexdigest()


def unsigned(content: bytes) -> bytes:
    """A file without its signature, if it has one."""
    found = _SIGNATURE.search(content)
    return content if found is None else content[: found.start()] + _END


def _key_id(key: str) -> str:
    return hashlib.sha256(b"inflight key id\0" + key.encode()).hexdigest()[:8]
