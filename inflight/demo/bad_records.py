"""Malformed records. Each has to end in a dead letter or a failed result, and must not stop the stream."""

from typing import NamedTuple

import msgspec

from machine_learning_engineering.events.topics import MEBIBYTE

DIAMOND = {
    "carat": 0.23,
    "cut": "Ideal",
    "color": "E",
    "clarity": "SI2",
    "depth": 61.5,
    "table": 55.0,
    "x": 3.95,
    "y": 3.98,
    "z": 2.43,
}


class BadRecord(NamedTuple):
    """A record and its expected outcome.

    `outcome` is the reason of its dead letter, or the error type of its failed result; the message contains `names`.
    """

    name: str
    key: bytes | None
    value: bytes | None
    outcome: str
    names: str

    @property
    def is_dead_letter(self) -> bool:
        """Whether its outcome is a dead letter and not a failed result."""
        return self.outcome not in ("unknown_model", "invalid_features")


def bad_records(prefix: str) -> list[BadRecord]:
    """One record of each kind; request ids start with `prefix`."""

    def envelope(name: str, **fields: object) -> tuple[bytes, bytes]:
        request_id = f"{prefix}-{name}"
        return request_id.encode(), msgspec.json.encode({"request_id": request_id, "model": "diamonds"} | fields)

    def features(name: str, names: str, raw: bytes | None = None, **changes: object) -> BadRecord:
        found = {field: value for field, value in (DIAMOND | changes).items() if value is not ...}
        key, value = envelope(name, features=msgspec.Raw(raw) if raw is not None else found)
        return BadRecord(name, key, value, "invalid_features", names)

    def raw_carat(text: bytes) -> bytes:
        return msgspec.json.encode(DIAMOND).replace(b'"carat":0.23', b'"carat":' + text)

    good_key, good = envelope("good", features=DIAMOND)
    no_features_key, no_features = envelope("no_features")
    typo_key, typo = envelope("typo", features=DIAMOND, modell="diamonds")
    wrong_time_key, wrong_time = envelope("wrong_time", features=DIAMOND, requested_at="yesterday")
    unknown_key, unknown = envelope("unknown_model", features=DIAMOND, model="emeralds")
    nan_key, nan = envelope("nan", features=msgspec.Raw(raw_carat(b"NaN")))
    infinity_key, infinity = envelope("infinity", features=msgspec.Raw(raw_carat(b"-Infinity")))
    deep_key, deep = envelope("deep", features=msgspec.Raw(b"[" * 50_000 + b"]" * 50_000))
    large_key, large = envelope("large", features=DIAMOND | {"cut": "x" * (MEBIBYTE + 1)})
    return [
        BadRecord("empty value", f"{prefix}-empty".encode(), b"", "empty_value", "value"),
        BadRecord("no value", f"{prefix}-tombstone".encode(), None, "empty_value", "value"),
        BadRecord("not JSON", f"{prefix}-text".encode(), b"a diamond, please", "not_json", "JSON"),
        BadRecord("cut short", good_key, good[:-10], "not_json", "JSON"),
        BadRecord("wrong shape", f"{prefix}-list".encode(), b"[1, 2, 3]", "invalid_request", "object"),
        BadRecord("wrong encoding", good_key, good.decode().encode("utf-16"), "not_utf8", "UTF-8"),
        BadRecord("half a character", good_key, good.replace(b"Ideal", b"Id\xe9al"), "not_utf8", "UTF-8"),
        BadRecord("NaN", nan_key, nan, "not_json", "features.carat"),
        BadRecord("infinity", infinity_key, infinity, "not_json", "features.carat"),
        BadRecord("nested too deeply", deep_key, deep, "invalid_request", "features"),
        BadRecord("too large", large_key, large, "too_large", "bytes"),
        BadRecord("a key too large", b"k" * 20_000, good, "too_large", "key"),
        BadRecord("request_id of a wrong type", b"7", b'{"request_id":7,"model":"m","features":{}}', *_INVALID_ID),
        BadRecord("no features", no_features_key, no_features, "invalid_request", "features"),
        BadRecord("unknown field", typo_key, typo, "invalid_request", "modell"),
        BadRecord("wrong time", wrong_time_key, wrong_time, "invalid_request", "requested_at"),
        BadRecord("unknown model", unknown_key, unknown, "unknown_model", "emeralds"),
        features("missing_feature", "carat", carat=...),
        features("unknown_feature", "colour", colour="E"),
        features("text_for_number", "carat", carat="heavy"),
        features("null_for_number", "carat", carat=None),
        features("unknown_category", "cut", cut="Superb"),
        features("negative", "carat", carat=-1.0),
        features("too_large_number", "carat", raw_carat(b"1e999")),
        features("huge_integer", "carat", raw_carat(b"9" * 400)),
        features("features_are_a_list", "object", b"[0.23]"),
    ]


_INVALID_ID = ("invalid_request", "request_id")
