"""Arms: which version of a model answers which request while a rollout is open. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from machine_learning_engineering.declaration.fields import EventFields
from machine_learning_engineering.declaration.paths import parse_path
from machine_learning_engineering.events.schemas import RolloutArm
from machine_learning_engineering.observability.redaction import Redactor
from machine_learning_engineering.rollout.record import Rollout
from machine_learning_engineering.rollout.split import Splitter

MAX_KEYS = 65_536
"""Keys whose arm is remembered: a dictionary is several times faster than the hash."""
SHADOW = "shadow"
"""Domain of the hash that chooses what is shadowed: that choice is independent of the arm."""
_PER_CENT = 100

_canonical = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode


class Roles(NamedTuple):
    """What the versions of an open rollout do, in a worker that serves one of them."""

    percent: int
    """Share of the keys that the challenger answers."""
    beside: str
    """Version that has to be open beside the one in service; empty if none."""
    shadow: str
    """Version that answers in the shadow; empty if none."""
    role: Literal["champion", "challenger"]
    """Of the shadow."""


def roles(rollout: Rollout, served: str) -> Roles | None:
    """What a rollout asks of a worker; None if the version in service answers alone.

    The alias decides what is served, and may have moved without the record: by hand, or in between of two writes. Then
    the record says nothing of the version in service, and no answer may claim to belong to it.

    Args:
        served: The version in service.
    """
    champion, challenger = rollout.champion, rollout.challenger
    if champion == challenger:
        return None
    if rollout.stage == "bake" and served == challenger:
        return Roles(_PER_CENT, champion, champion, "champion")
    if rollout.stage == "canary" and served == champion:
        return Roles(rollout.percent, challenger, "", "challenger")
    if rollout.stage == "shadow" and served == champion:
        return Roles(0, "", challenger, "challenger")
    return None


class ShadowPlan(NamedTuple):
    """What is scored a second time, by a version that nobody is answered by."""

    rollout_id: str
    model: str
    role: Literal["champion", "challenger"]
    served_version: str
    shadow_version: str


class ShadowBatch(NamedTuple):
    """Requests of one predict call, with what the version in service answered: to be scored once more.

    `rows` are pending requests, `predictions` their answers as JSON, None where there is none.
    """

    plan: ShadowPlan
    rows: Sequence[Any]
    predictions: Sequence[bytes | None]
    completed: float
    seconds: float


class Arm:
    """One version with the share of requests that it answers. Compared by identity.

    Attributes:
        model: the opened version.
        record: what is written into results and log records.
        redact: redacts features of requests that this version has decoded; None if nothing is redacted.
    """

    __slots__ = ("model", "record", "redact")

    def __init__(self, model: Any, record: RolloutArm, redact: Redactor | None) -> None:
        self.model = model
        self.record = record
        self.redact = redact


class Arms:
    """The arms of a rollout.

    Args:
        rollout: the open rollout.
        found: what it asks for, by `roles`.
        models: the opened versions by version: the one in service, and in a canary the one beside it.
        redactors: of these versions, where any of their features are redacted.

    Raises:
        ValueError: the policy's `key` is no path. The message names the fix.
    """

    def __init__(
        self, rollout: Rollout, found: Roles, models: Mapping[str, Any], redactors: Mapping[str, Redactor]
    ) -> None:
        self.rollout = rollout
        self.percent = found.percent
        self._served = models[rollout.challenger if found.role == "champion" else rollout.champion]
        key = rollout.policy.key
        self._fields = EventFields([parse_path(key, "rollout.key")]) if key else None
        self._splitter = Splitter(rollout.salt)
        self._known: dict[bytes, Arm] = {}

        def arm(name: Literal["champion", "challenger"], version: str) -> Arm:
            record = RolloutArm(
                rollout.rollout_id, name, rollout.champion, rollout.challenger, rollout.salt, found.percent
            )
            return Arm(models[version], record, redactors.get(version))

        self._only = None
        if found.percent >= _PER_CENT:
            self._only = arm("challenger", rollout.challenger)
        elif found.percent <= 0:
            self._only = arm("champion", rollout.champion)
        else:
            self._champion = arm("champion", rollout.champion)
            self._challenger = arm("challenger", rollout.challenger)
        self.shadow: ShadowPlan | None = None
        self._share = rollout.policy.shadow_share
        if found.shadow and self._share > 0:
            served = rollout.champion if found.role == "challenger" else rollout.challenger
            self.shadow = ShadowPlan(rollout.rollout_id, rollout.model, found.role, served, found.shadow)
            self._shadows = Splitter(rollout.salt, SHADOW)

    def is_of(self, rollout: Rollout, served: Any) -> bool:
        """Whether these are the arms of a rollout as it is now, with this model in service."""
        before = self.rollout
        return self._served is served and (
            (before.rollout_id, before.stage, before.percent, before.salt, before.policy)
            == (rollout.rollout_id, rollout.stage, rollout.percent, rollout.salt, rollout.policy)
            and (before.champion, before.challenger) == (rollout.champion, rollout.challenger)
        )

    def is_canary_of(self, rollout: Rollout, served: Any) -> bool:
        """Whether these are the arms of an earlier stage, the canary, of a rollout, with this model in service."""
        before = self.rollout
        return self._served is served and before.stage == "canary" and before.rollout_id == rollout.rollout_id

    def of(self, features: Any, key: bytes | None, request_id: str) -> Arm:
        """The arm that a request belongs to.

        Args:
            features: as JSON.
            key: of the record.
        """
        if self._only is not None:
            return self._only
        if self._fields is not None:
            entity = self.entity(features, key, request_id)
        elif key is not None:
            entity = key
        else:
            # It comes once: nothing is gained by remembering it.
            return self._chosen(request_id.encode())
        arm = self._known.get(entity)
        if arm is None:
            if len(self._known) >= MAX_KEYS:
                self._known.clear()
            arm = self._known[entity] = self._chosen(entity)
        return arm

    def _chosen(self, entity: bytes) -> Arm:
        return self._challenger if self._splitter.is_challenger(entity, self.percent) else self._champion

    def entity(self, features: Any, key: bytes | None, request_id: str) -> bytes:
        """What the split is by: the policy's field, or else the record's key, or else the request id."""
        if self._fields is not None:
            try:
                (found,) = self._fields.read(features)
                if found is not msgspec.UNSET and (value := _decode(found)) is not None:
                    return _text(value)
            # Features that are no JSON, or lead elsewhere: a failure needs an arm, too.
            except (ValueError, AttributeError, RecursionError):
                pass
        return key if key is not None else request_id.encode()

    def shadowed(
        self, rows: Sequence[Any], predictions: Sequence[bytes | None], completed: float, seconds: float
    ) -> tuple[ShadowBatch, ...]:
        """The part of answered requests that the shadow scores, too: by request id, the same in every worker.

        Args:
            rows: pending requests of one predict call.
            predictions: as JSON; None for those that failed.
            completed: when they were completed, in seconds since 1970.
            seconds: duration of the call.
        """
        plan = self.shadow
        if plan is None:
            return ()
        if self._share < 1:
            share, chosen = self._share * _PER_CENT, self._shadows.is_challenger
            pairs = [
                pair
                for pair in zip(rows, predictions, strict=True)
                if chosen(pair[0].request.request_id.encode(), share)
            ]
            if not pairs:
                return ()
            rows, predictions = zip(*pairs, strict=True)
        return (ShadowBatch(plan, rows, predictions, completed, seconds),)


def _text(value: Any) -> bytes:
    """The bytes of a key, equal for equal JSON values."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _canonical(value)
