"""Fingerprint of a request: tells a replay from another request with the same id."""

from hashlib import blake2b

from msgspec import Raw

from machine_learning_engineering.core.json_values import canonical_json


def fingerprint(model: str, features: Raw) -> str:
    """Digest of model and features in 32 hexadecimal digits: equal for the same model and an equal JSON value."""
    return fingerprint_of_canonical(model, canonical_json(features) or bytes(features))


def fingerprint_of_canonical(model: str, features: bytes) -> str:
    """As `fingerprint`, of features that are canonical JSON already, or are no readable JSON."""
    digest = blake2b(model.encode(), digest_size=16)
    digest.update(b"\0" + features)
    return digest.hexdigest()
