"""Redaction: features that are hashed or dropped before they enter the prediction log.

Rules come from the deployment's settings and from the model's author; the stricter one applies. Scoring and results are
not affected: models see the original values.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Raw

from machine_learning_engineering.core.model import RedactAction
from machine_learning_engineering.settings import KernelSettings

ALL = "*"
"""In a rule: every other feature or model. In a record: all features are redacted."""
WITHHELD = Raw(b"{}")
"""Replaces features that cannot be redacted one by one, because they are unreadable or not declared."""
_PREFIX = "hash-"
_TOKEN = re.compile(rb'"hash-[0-9a-f]{32}"')
_NULL = Raw(b"null")
_STRICTNESS: tuple[RedactAction, ...] = ("keep", "hash", "drop")

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="deterministic").encode


class InvalidRules(ValueError):
    """Invalid redaction rules; the message names the model, the feature and the fix."""


class Redactor:
    """Redacts the features of one model.

    Args:
        actions: Action for each feature that the model declares.
        other: Action for all other features.
        token: Returns the token of a value.
    """

    def __init__(self, actions: Mapping[str, RedactAction], other: RedactAction, token: Callable[[Any], str]) -> None:
        self.actions = dict(actions)
        self._other = other
        self._token = token
        self.names = [name for name, action in actions.items() if action != "keep"]
        """Redacted features, for `PredictionLogged.redacted`."""
        if other != "keep" and not actions:
            self.names.append(ALL)

    def __call__(self, features: Raw) -> Raw:
        """Return the features to log. Kept values are unchanged byte for byte; a null stays null unless it is dropped.

        If a field occurs twice, the last one counts, as it does for the model. Unreadable features are withheld.
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
    """Redactors of a worker's models. Without rules, there are none."""

    by_model: Mapping[str, Redactor] = field(default_factory=dict)
    active: bool = False
    """True if there is any rule: features for unknown models are then withheld."""
    unmatched: tuple[str, ...] = ()
    """Models in the settings' rules that do not exist, perhaps because of a typing error."""


def redaction(settings: KernelSettings, classes: Mapping[str, type]) -> Redaction:
    """Build the redactors of models.

    Args:
        settings: Rules and key of the deployment.
        classes: Model classes by name.

    Raises:
        InvalidRules: A rule names an unknown feature or action, or hashes without a key.
    """
    token = tokens(settings)
    by_model = {}
    for name, model in classes.items():
        features = getattr(model, "Features", None)
        known = () if features is None else features.__struct_encode_fields__
        redactor = model_redactor(settings, token, name, getattr(model, "redacted_features", {}), known)
        if redactor is not None:
            by_model[name] = redactor
    unmatched = tuple(sorted(set(settings.log_redact).difference(classes, (ALL,))))
    return Redaction(by_model, bool(by_model) or any(settings.log_redact.values()), unmatched)


def model_redactor(
    settings: KernelSettings,
    token: Callable[[Any], str] | None,
    name: str,
    declared: Mapping[str, Any],
    known: Sequence[str],
) -> Redactor | None:
    """Build the redactor of one model; None if nothing of it is redacted.

    Args:
        settings: Rules of the deployment.
        token: See `tokens`.
        name: Of the model.
        declared: Rules of the model's author.
        known: Features that the model takes, if they are known.

    Raises:
        InvalidRules: A rule names an unknown feature or action, or hashes without a key.
    """
    rules = settings.log_redact.get(name, settings.log_redact.get(ALL, {}))
    if not (set(rules.values()) | set(declared.values())) - {"keep"}:
        return None
    if wrong := sorted(set(declared.values()).difference(_STRICTNESS)):
        raise InvalidRules(f"the class of the model `{name}` has the action {wrong[0]}: use keep, hash or drop")
    exact = name != ALL and name in settings.log_redact
    for source, given in (("INFLIGHT_LOG_REDACT", rules if exact else {}), ("its class", declared)):
        if known and (unknown := sorted(set(given) - {ALL, *known})):
            raise InvalidRules(
                f"{source} redacts `{'`, `'.join(unknown)}` of the model `{name}`, which takes {', '.join(known)}"
            )
    actions = {one: _stricter(rules, declared, one) for one in known or sorted({*rules, *declared} - {ALL})}
    # The content of an undeclared feature is unknown.
    redactor = Redactor(actions, "drop" if known else _stricter(rules, declared, ALL), token or _no_key)
    if token is None and "hash" in actions.values():
        raise InvalidRules(f"features of the model `{name}` are hashed: set INFLIGHT_LOG_REDACT_KEY to a secret")
    return redactor if redactor.names else None


def redacted_names(settings: KernelSettings, model: Any) -> list[str]:
    """Features of a model class that its rules hash or drop, so that nobody is to read them elsewhere."""
    rules = settings.log_redact.get(model.name, settings.log_redact.get(ALL, {}))
    known = model.Features.__struct_encode_fields__
    return [one for one in known if _stricter(rules, model.redacted_features, one) != "keep"]


def tokens(settings: KernelSettings) -> Callable[[Any], str] | None:
    """Return a function that maps a value to its token, a keyed BLAKE2b digest that is equal for equal JSON values.

    None without a key in the settings.
    """
    if settings.log_redact_key is None:
        return None
    # The digest of the secret, because a BLAKE2b key has at most 64 bytes.
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
    """Tell whether any value was replaced by its token, so that the row cannot be used for training."""
    return _TOKEN.search(bytes(features)) is not None


def _stricter(rules: Mapping[str, RedactAction], declared: Mapping[str, RedactAction], name: str) -> RedactAction:
    given: list[RedactAction] = [found.get(name, found.get(ALL, "keep")) for found in (rules, declared)]
    return max(given, key=_STRICTNESS.index)


def _no_key(_value: Any) -> str:
    raise InvalidRules("values cannot be hashed without INFLIGHT_LOG_REDACT_KEY")
