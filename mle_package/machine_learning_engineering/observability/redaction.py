"""What the prediction log does not hold as it was sent: features that are hashed or left out before they are logged.

The rules come from two sides, the deployment's settings and the model's author, and of two the stricter one counts.
Scoring and results know nothing of it: models see what was sent.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Raw

from machine_learning_engineering.core.model import RedactAction
from machine_learning_engineering.settings import KernelSettings

ALL = "*"
"""In a rule: every other feature, or every other model. In a record: nothing of what was sent is there."""
WITHHELD = Raw(b"{}")
"""In place of features that can't be told apart, since they can't be read or nobody has declared them."""
_PREFIX = "hash-"
_TOKEN = re.compile(rb'"hash-[0-9a-f]{32}"')
_NULL = Raw(b"null")
_STRICTNESS: tuple[RedactAction, ...] = ("keep", "hash", "drop")

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="deterministic").encode


class WrongRules(ValueError):
    """Rules that can't be kept; the message names the model, the feature and the fix."""


class Redactor:
    """Takes out of one model's features what its rules say.

    Args:
        actions: what becomes of each feature that the model declares.
        other: what becomes of all others.
        token: the token of a value.
    """

    def __init__(self, actions: Mapping[str, RedactAction], other: RedactAction, token: Callable[[Any], str]) -> None:
        self.actions = dict(actions)
        self._other = other
        self._token = token
        self.names = [name for name, action in actions.items() if action != "keep"]
        """The features that the log does not hold as they were sent, for `PredictionLogged.redacted`."""
        if other != "keep" and not actions:
            self.names.append(ALL)

    def __call__(self, features: Raw) -> Raw:
        """The features as they are logged. What is kept stays byte for byte; a null stays a null, unless it is dropped.

        Of a field that is there twice the last one counts, as it does for the model. What can't be read is withheld as
        a whole.
        """
        try:
            found = _decode_fields(features)
            for name, value in tuple(found.items()):
                action = self.actions.get(name, self._other)
                if action == "hash":
                    if value != _NULL:
                        found[name] = self._token(_decode(value))  # type: ignore[assignment]
                elif action == "drop":
                    del found[name]
            return Raw(_encode(found))
        except (ValueError, RecursionError):
            return WITHHELD


@dataclass(frozen=True)
class Redaction:
    """The redactors of a worker's models. Without rules it does nothing and costs nothing."""

    by_model: Mapping[str, Redactor] = field(default_factory=dict)
    active: bool = False
    """Whether there is any rule: then features for a model that nobody has declared are withheld."""
    unmatched: tuple[str, ...] = ()
    """The models that settings have rules for and that are not there, perhaps for a slip of the pen."""


def redaction(settings: KernelSettings, classes: Mapping[str, type]) -> Redaction:
    """The redactors of the models of these classes.

    Raises:
        WrongRules: a rule names a feature that its model does not have, or hashes without a key.
    """
    token = tokens(settings)
    by_model = {}
    for name, model in classes.items():
        rules = settings.log_redact.get(name, settings.log_redact.get(ALL, {}))
        declared: Mapping[str, RedactAction] = getattr(model, "redacted_features", {})
        if not (set(rules.values()) | set(declared.values())) - {"keep"}:
            continue
        if wrong := sorted(set(declared.values()).difference(_STRICTNESS)):
            raise WrongRules(f"the class of the model `{name}` says {', '.join(wrong)}: it is keep, hash or drop")
        features = getattr(model, "Features", None)
        known: tuple[str, ...] = () if features is None else features.__struct_encode_fields__
        exact = {name for name in settings.log_redact if name != ALL}
        for source, given in (("INFLIGHT_LOG_REDACT", rules if name in exact else {}), ("its class", declared)):
            if known and (unknown := sorted(set(given) - {ALL, *known})):
                raise WrongRules(
                    f"{source} redacts `{'`, `'.join(unknown)}` of the model `{name}`, which takes {', '.join(known)}"
                )
        actions = {one: _stricter(rules, declared, one) for one in known or sorted({*rules, *declared} - {ALL})}
        # Nobody has said what an undeclared feature holds.
        redactor = Redactor(actions, "drop" if known else _stricter(rules, declared, ALL), token or _no_key)
        if token is None and "hash" in actions.values():
            raise WrongRules(f"features of the model `{name}` are hashed: set INFLIGHT_LOG_REDACT_KEY to a secret")
        if redactor.names:
            by_model[name] = redactor
    unmatched = tuple(sorted(set(settings.log_redact).difference(classes, (ALL,))))
    return Redaction(by_model, bool(by_model) or any(settings.log_redact.values()), unmatched)


def tokens(settings: KernelSettings) -> Callable[[Any], str] | None:
    """What makes the token of a value: a keyed digest, the same for equal JSON values; None without a key."""
    if settings.log_redact_key is None:
        return None
    # The digest of the secret, since a key of blake2b is at most 64 bytes long.
    key = blake2b(settings.log_redact_key.get_secret_value().encode(), digest_size=32).digest()
    keyed = blake2b(key=key, digest_size=16)

    def token(value: Any) -> str:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        digest = keyed.copy()
        digest.update(_canonical(value))
        return _PREFIX + digest.hexdigest()

    return token


def holds_tokens(features: bytes | Raw) -> bool:
    """Whether a value was replaced by its token, so that it can't be learned from."""
    return _TOKEN.search(bytes(features)) is not None


def _stricter(rules: Mapping[str, RedactAction], declared: Mapping[str, RedactAction], name: str) -> RedactAction:
    given: list[RedactAction] = [found.get(name, found.get(ALL, "keep")) for found in (rules, declared)]
    return max(given, key=_STRICTNESS.index)


def _no_key(_value: Any) -> str:
    raise WrongRules("values can't be hashed without INFLIGHT_LOG_REDACT_KEY")
