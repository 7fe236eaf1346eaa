"""Requests that are made to cost much: none takes the scoring thread longer than a heavy honest one."""

from time import process_time

import msgspec
import pytest
from msgspec import Raw

from machine_learning_engineering.core.json_values import canonical_json
from machine_learning_engineering.observability.redaction import Redactor, tokens
from machine_learning_engineering.settings import KernelSettings
from stream_app.serving.request import InvalidRequest, read_request

MAX_BYTES = 1_000_000
SECONDS = 1.0
"""A hundred times what the worst of these takes, and a hundredth of what one of a quadratic pattern does."""


def named(name: str) -> bytes:
    """A request with a field that nobody knows; the decoder quotes its name."""
    return msgspec.json.encode({"request_id": "a", "model": "m", name: 1, "features": {}})


# They look like parts of the decoder's own messages.
NAMES = ("field `", " - at `$", " - at `$.", "value '", "`", ".", "[0]", "[", " - at `$.a` field `")
VALUES = {
    "objects": b'{"a":' * 60_000,
    "brackets": b"[" * 900_000,
    "escapes": b'"' + b"\\u0000" * 150_000 + b'"',
    "digits": b"1" * 900_000,
    "long-id": b'{"request_id":"' + b"x" * 900_000 + b'"}',
    "not-utf8": b"\xff" * 900_000,
    "number": b'{"features":' + b"9" * 64_000 + b"}",
    "models": b'{"model":' * 5_000,
    "surrogate-in-a-long-path": b'{"text":"\\ud800","'
    + b"k" * 400_000
    + b'":{'
    + b",".join(b'"%x":0' % number for number in range(50_000))
    + b"}}",
    **{f"{name}*{count}": named(name * count) for name in NAMES for count in (1_000, 20_000)},
}


@pytest.mark.parametrize("value", VALUES.values(), ids=list(VALUES))
def test_reading_it_costs_little(value: bytes) -> None:
    """And its message is bounded, however long the name in it; a dead letter has 4,096 characters of it."""
    began = process_time()
    with pytest.raises(InvalidRequest) as refused:
        read_request(value, MAX_BYTES)
    assert process_time() - began < SECONDS
    assert len(str(refused.value)) < 16_384


FEATURES = {
    "many-fields": b"{" + b",".join(b'"%d":1' % number for number in range(100_000)) + b"}",
    "deep": b'{"text":' + b"[" * 400_000 + b"]" * 400_000 + b"}",
    "many-lists": b"[" + b"[]," * 300_000 + b"[]]",
    "many-objects": b"{" + b",".join(b'"%d":{}' % number for number in range(80_000)) + b"}",
}


@pytest.mark.parametrize("features", FEATURES.values(), ids=list(FEATURES))
def test_redacting_and_storing_its_features_costs_little(features: bytes) -> None:
    """The worker hides what the settings say, the indexer orders the names."""
    settings = KernelSettings(_env_file=None, log_redact_key="x" * 20)  # type: ignore[call-arg, arg-type]
    hide = Redactor({"text": "hash"}, "drop", tokens(settings) or (lambda _: ""))
    began = process_time()
    hide(Raw(features))
    canonical_json(Raw(features))
    assert process_time() - began < 5 * SECONDS
