"""`Records`: what the records of log, shadows and labels tell of one stage of a rollout. Pure, and bounded in memory.

The records may come in any order and any number of times: what is kept is the same.
"""

from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any, Literal
from zlib import crc32

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from machine_learning_engineering.core.timestamps import to_utc
from machine_learning_engineering.declaration.fields import EventFields
from machine_learning_engineering.declaration.paths import parse_path
from machine_learning_engineering.events.labels import InvalidLabel, LabelTooLarge, read_label
from machine_learning_engineering.events.record_time import recorded_at
from machine_learning_engineering.events.schemas import (
    LabelReported,
    PredictionShadowed,
    RolloutArm,
    Timestamp,
    decode_label,
    decode_shadow,
)
from machine_learning_engineering.rollout.comparison import value_of
from machine_learning_engineering.rollout.record import Rollout
from monitoring.rollout_evidence.answers import Answer, Label, Pair, Rank, Unit, pair_of
from monitoring.rollout_evidence.losses import Losses
from monitoring.rollout_evidence.sample import Keys, Sample

MIN_ITEMS = 20_000
"""Requests of each arm, and pairs, that are kept at least before a sample of them is."""
MAX_BYTES = 48 * 1024 * 1024
"""Approximate memory of each of the three."""
MAX_EARLY = 20_000
"""Labels that wait for their requests; `MAX_EARLY_BYTES` is their size. The oldest are given up."""
MAX_EARLY_BYTES = 8 * 1024 * 1024

_NEVER = datetime.min.replace(tzinfo=UTC)


class _ErrorType(Struct, frozen=True):
    type: str


class Logged(Struct, frozen=True, tag_field="type", tag="prediction.logged.v1"):
    """The fields of a `PredictionLogged` that count here: decoding skips the others, which may be large."""

    request_id: str
    model: str
    outcome: Literal["completed", "failed"]
    accepted_at: Timestamp
    completed_at: Timestamp
    score_seconds: float
    partition: int
    offset: int
    model_version: str | UnsetType = UNSET
    features: Raw | UnsetType = UNSET
    prediction: Raw | UnsetType = UNSET
    error: _ErrorType | UnsetType = UNSET
    rollout: RolloutArm | UnsetType = UNSET


decode_logged = msgspec.json.Decoder(Logged).decode


class Records:
    """The evidence as it is collected.

    Args:
        rollout: The stage, and the percentage, that is observed: records of others are ignored.
        losses: Tells valid predictions.
        max_items: Requests of each arm, and pairs, that are kept before a sample of them is; by default enough for the
            policy's minima.
    """

    def __init__(self, rollout: Rollout, losses: Losses, max_items: int | None = None) -> None:
        policy = rollout.policy
        limit = max_items or max(MIN_ITEMS, 4 * max(policy.min_requests, policy.min_labels) + policy.warm_up_requests)
        self.rollout = rollout
        self._losses = losses
        self._key = Keys(rollout.salt)
        self._needle = rollout.rollout_id.encode()
        self.champion: Sample[Answer] = Sample(limit, MAX_BYTES)
        self.challenger: Sample[Answer] = Sample(limit, MAX_BYTES)
        self.pairs: Sample[Pair] = Sample(limit, MAX_BYTES)
        self.units: Sample[Unit] = Sample(limit, MAX_BYTES)
        self._fields = EventFields([parse_path(policy.key, "rollout.key")]) if policy.key else None
        self.labels: dict[int, Label] = {}
        self.early: OrderedDict[int, Label] = OrderedDict()
        self._early_bytes = 0
        self.memory: dict[str, int] = {}
        """The most memory that a shadow's process has reported, in bytes, by version."""
        self.given_up = 0
        """Labels that waited for their requests in vain, because there were too many."""
        self.from_the_future = 0
        """Labels that were observed after they were written."""
        self.unreadable = 0
        """Records that could not be read."""

    def log(self, value: bytes, key: bytes | None = None) -> None:
        """Note a record of the log; its key is that of the request."""
        if self._needle not in value:
            return
        try:
            event = decode_logged(value)
        except (ValueError, RecursionError):
            self.unreadable += 1
            return
        rollout, arm = self.rollout, event.rollout
        if arm is UNSET or arm.rollout_id != rollout.rollout_id or arm.percent != rollout.percent:
            return
        if event.model != rollout.model:
            return
        version = rollout.challenger if arm.arm == "challenger" else rollout.champion
        outcome: Literal["completed", "failed", "rejected"] = "completed"
        if event.outcome == "failed":
            model_failed = event.error is not UNSET and event.error.type == "prediction_error"
            outcome = "failed" if model_failed else "rejected"
        # Before the shadow's record of the same answer, which does not tell why it failed.
        rank = event.completed_at.timestamp(), event.partition, 2 * event.offset, crc32(value)
        prediction = b"" if event.prediction is UNSET else bytes(event.prediction)
        answer = self._answer(rank, event, outcome, event.score_seconds, version, prediction)
        self._put(self._key(event.request_id.encode(errors="replace")), answer, version)
        if 0 < rollout.percent < 100 and (unit := self._unit(event, key)) is not None:
            # A unit belongs to one arm; if it were in both, each collector would have to see the same one.
            self.units.put(self._key(unit), Unit((float(arm.arm == "champion"), 0, 0, 0), version))

    def _unit(self, event: Logged, key: bytes | None) -> bytes | None:
        """What decided on the arm of a request; None if the log does not hold it."""
        if self._fields is None:
            return event.request_id.encode(errors="replace") if key is None else key
        if event.features is UNSET:
            return None
        try:
            (found,) = self._fields.read(event.features)
        except (ValueError, AttributeError, RecursionError):
            return None
        return None if found is UNSET or bytes(found) == b"null" else bytes(found)

    def shadow(self, value: bytes) -> None:
        """Note a record of the shadows."""
        if self._needle not in value:
            return
        try:
            event = decode_shadow(value)
        except (ValueError, RecursionError):
            self.unreadable += 1
            return
        rollout = self.rollout
        # After the promotion, the champion of before is the shadow.
        role = {"shadow": "challenger", "bake": "champion"}.get(rollout.stage)
        if event.rollout_id != rollout.rollout_id or event.model != rollout.model or event.role != role:
            return
        key = self._key(event.request_id.encode(errors="replace"))
        rank = event.completed_at.timestamp(), event.partition, 2 * event.offset + 1, crc32(value)
        if event.memory_bytes is not UNSET:
            version = event.shadow_version
            self.memory[version] = max(self.memory.get(version, 0), event.memory_bytes)
        self._put_pair(key, rank, event)
        served, shadow = rollout.champion, rollout.challenger
        if role == "champion":
            served, shadow = shadow, served
        if event.prediction is not UNSET:
            # Its log record counts instead, once it is read.
            prediction = bytes(event.prediction)
            self._put(key, self._answer(rank, event, "completed", event.served_seconds, served, prediction), served)
        if event.outcome == "dropped":
            return
        seconds = None if event.shadow_seconds is UNSET else event.shadow_seconds
        prediction = b"" if event.shadow_prediction is UNSET else bytes(event.shadow_prediction)
        self._put(key, self._answer(rank, event, event.outcome, seconds, shadow, prediction), shadow)

    def label(self, record: Any) -> None:
        """Note a record of the labels."""
        try:
            event = read_label(record)
        except InvalidLabel:
            self.from_the_future += self._concerns(record)
            return
        except (LabelTooLarge, ValueError, RecursionError, OverflowError):
            # The label joiner makes it a dead letter.
            return
        if event.model == self.rollout.model:
            self.observed(event, recorded_at(record) or _NEVER)

    def observed(self, event: LabelReported, reported_at: datetime) -> None:
        """Note a label of the model."""
        key = self._key(event.request_id.encode(errors="replace"))
        if key >= self._limit:
            return
        label = Label(to_utc(event.observed_at), reported_at, bytes(event.label))
        if self._is_known(key):
            if label.beats(self.labels.get(key)):
                self.labels[key] = label
            return
        self._wait(key, label)

    def _wait(self, key: int, label: Label) -> None:
        """Keep a label for a request that may come; the oldest are given up where they are too many."""
        known = self.early.get(key)
        if not label.beats(known):
            return
        self._early_bytes += len(label.text) - (0 if known is None else len(known.text))
        self.early[key] = label
        while len(self.early) > MAX_EARLY or self._early_bytes > MAX_EARLY_BYTES:
            oldest, waiting = self.early.popitem(last=False)
            self._early_bytes -= len(waiting.text)
            self.given_up += self._would_be_known(oldest)

    def _answer(
        self,
        rank: Rank,
        event: Logged | PredictionShadowed,
        outcome: Literal["completed", "failed", "rejected"],
        seconds: float | None,
        version: str,
        prediction: bytes,
    ) -> Answer:
        accepted = event.accepted_at.timestamp()
        if outcome != "completed":
            return Answer(rank, accepted, outcome, seconds, b"", None)
        if not self._losses.is_valid(self.rollout.model, version, prediction):
            return Answer(rank, accepted, "invalid", seconds, b"", None)
        return Answer(rank, accepted, "completed", seconds, prediction, value_of(prediction))

    def _put(self, key: int, answer: Answer, version: str) -> None:
        sample = self.challenger if version == self.rollout.challenger else self.champion
        self._settle(key, sample.put(key, answer))

    def _put_pair(self, key: int, rank: Rank, event: PredictionShadowed) -> None:
        accepted = event.accepted_at.timestamp()
        served, shadow = event.prediction, event.shadow_prediction
        if event.outcome == "dropped":
            pair = Pair(rank, accepted, dropped=True)
        elif served is UNSET or shadow is UNSET:
            # One of them failed: that is evidence of its arm.
            return
        elif event.role == "challenger":
            pair = pair_of(rank, accepted, bytes(served), bytes(shadow))
        else:
            pair = pair_of(rank, accepted, bytes(shadow), bytes(served))
        self._settle(key, self.pairs.put(key, pair))

    def _settle(self, key: int, narrowed: bool) -> None:
        """Give a request the label that waited for it; after a threshold was lowered, forget what is above it."""
        if key in self.early and self._is_known(key):
            label = self.early.pop(key)
            self._early_bytes -= len(label.text)
            if label.beats(self.labels.get(key)):
                self.labels[key] = label
        if narrowed:
            for key in [key for key in self.labels if not self._is_known(key)]:
                label = self.labels.pop(key)
                if key < self._limit:
                    # Its shadow may still come.
                    self._wait(key, label)
            for key in [key for key in self.early if key >= self._limit]:
                self._early_bytes -= len(self.early.pop(key).text)

    def _is_known(self, key: int) -> bool:
        return key in self.challenger or key in self.pairs or key in self.champion

    def _would_be_known(self, key: int) -> bool:
        """Whether a request would be kept in whichever arm it was."""
        return key < min(self.champion.limit, self.challenger.limit)

    @property
    def unknown(self) -> int:
        """Labels for requests that were not seen in this stage, those that were given up included."""
        return self.given_up + sum(map(self._would_be_known, self.early))

    @property
    def _limit(self) -> int:
        return max(self.champion.limit, self.challenger.limit, self.pairs.limit)

    def _concerns(self, record: Any) -> bool:
        """Whether a label that can be decoded is one of this model."""
        return decode_label(record.value() or b"").model == self.rollout.model
