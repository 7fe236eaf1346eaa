"""Scoring: turns the raw records of partition batches into the records to publish. Pure: neither Kafka nor Faust."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import time
from typing import Any, Protocol

from msgspec import UNSET, Raw, UnsetType

from machine_learning_engineering.core.error_text import describe_origin
from machine_learning_engineering.core.faults import FAULT_SECONDS, FaultRetry, MachineFaultError, is_machine_fault
from machine_learning_engineering.core.predict import predict_or_bisect
from machine_learning_engineering.core.timestamps import MAX_MILLISECONDS
from machine_learning_engineering.core.validation import rejection_message
from machine_learning_engineering.declaration.schema_registry import SchemaRegistryAway
from machine_learning_engineering.events.headers import RecordHeaders, headers_of
from machine_learning_engineering.events.schemas import (
    MAX_ERROR_CHARACTERS,
    Error,
    PredictionRequested,
    SourcePosition,
)
from machine_learning_engineering.events.sources import SOURCE, source_of
from machine_learning_engineering.events.topics import MEBIBYTE
from machine_learning_engineering.events.unreadable import UnreadableRecord
from machine_learning_engineering.observability.redaction import Redaction
from stream_app.serving.arms import Arm, Arms, ShadowBatch
from stream_app.serving.batch import PartitionBatch
from stream_app.serving.bindings import Binding, Bindings, Origin
from stream_app.serving.outcomes import Outcomes, OutputTopics, PendingRequest, ScoredBatch, request_context
from stream_app.serving.replies import ReplyRules
from stream_app.serving.request import InvalidRequest, read_request, without_time

logger = logging.getLogger(__name__)

MAX_PREDICTION_BYTES = MEBIBYTE
"""Together with its request it has to fit into a record of the log topic: an unpublishable record blocks the worker."""


class Model(Protocol):
    """The part of a model that scoring needs; see `machine_learning_engineering.sdk.MLEModel`."""

    version: str

    def decode(self, raw: Raw) -> Any:
        """Decode the JSON of features into the model's own Struct.

        Raises:
            ValueError: they don't fit the schema; the request fails with `invalid_features`.
        """

    def predict(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Return one prediction for each row, in order. If it raises, the rows at fault are isolated by bisection."""


class Scorer:
    """Scores partition batches with the models that it is given.

    Args:
        models: the models in service, by name.
        topics: full names of the topics that outputs are for.
        max_request_bytes: a larger value is a dead letter.
        clock: returns seconds since the epoch.
        redaction: rules for the features in log records; none by default.
        replies: which topics requests may name for a reply; none by default.
        fault_timeout: seconds for which a call of a model is repeated that raises faults of the machine.
        bindings: existing topics whose records are requests; none by default.
        arms: of models with an open rollout; none by default.
        on_arm: called with model, arm, and the number of its requests, for each group that is scored together.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        topics: OutputTopics,
        *,
        max_request_bytes: int,
        clock: Callable[[], float] = time,
        redaction: Redaction | None = None,
        replies: ReplyRules | None = None,
        fault_timeout: float = FAULT_SECONDS,
        bindings: Bindings | None = None,
        arms: Mapping[str, Arms] | None = None,
        on_arm: Callable[[str, str, int], None] = lambda _model, _arm, _requests: None,
    ) -> None:
        self._serving: tuple[Mapping[str, Model], Bindings, Mapping[str, Arms]] = models, bindings or {}, arms or {}
        self._on_arm = on_arm
        self._shadows: list[ShadowBatch] = []
        self._topics = topics
        self._outcomes = Outcomes(topics, clock, redaction or Redaction(), replies)
        self._max_request_bytes = max_request_bytes
        self._clock = clock
        self._fault_timeout = fault_timeout

    def score(self, batches: Sequence[PartitionBatch]) -> list[ScoredBatch]:
        """Score all records of `batches`, with one predict call for each model. Only the scoring thread calls this.

        Every record gets exactly one outcome: a completed or failed prediction, or a dead letter. No request and no
        exception of a model makes this raise; whatever else it does raise is a bug of the worker, and ends it.

        Returns:
            One `ScoredBatch` for each batch, in order; the outputs of each topic are in the order of the requests.

        Raises:
            MachineFaultError: a fault of the machine did not pass; no record may be acknowledged.
        """
        retry = FaultRetry(self._fault_timeout)
        started = self._clock()
        # Read once, so that all rows of a model in a scoring batch meet the same version.
        models, bindings, arms = self._serving
        scored = [ScoredBatch.empty(batch, self._topics) for batch in batches]
        # By model, and by arm where a model has several.
        pending: dict[str | Arm, list[PendingRequest]] = {}
        for scored_batch in scored:
            self._read(models, bindings, arms, scored_batch, pending, started, retry)
        for group, rows in pending.items():
            if isinstance(group, Arm):
                self._predict_arm(arms[rows[0].request.model], group, rows, started, retry)
            else:
                self._predict(models[group], rows, started, retry)
        for scored_batch in scored:
            if len(pending) > 1 or scored_batch.failed:
                self._restore_order(scored_batch)
        return scored

    def serve(
        self,
        models: Mapping[str, Model],
        bindings: Bindings | None = None,
        redaction: Redaction | None = None,
        arms: Mapping[str, Arms] | None = None,
    ) -> None:
        """Use these models from the next scoring batch on, with bindings and rules where given. For any thread.

        Args:
            arms: of models with an open rollout; none if it is missing.
        """
        if redaction is not None:
            self._outcomes.use_redaction(redaction)
        self._serving = models, self._serving[1] if bindings is None else bindings, arms or {}

    def take_shadows(self) -> list[ShadowBatch]:
        """What has to be scored in the shadow since the last call. Only the scoring thread calls this."""
        taken, self._shadows = self._shadows, []
        return taken

    def _restore_order(self, scored: ScoredBatch) -> None:
        # A model's requests were scored together, and what failed before came first.
        for topic, offsets in scored.offsets.items():
            outputs = scored.outputs[topic]
            scored.outputs[topic] = [outputs[index] for index in sorted(range(len(offsets)), key=offsets.__getitem__)]

    def _read(
        self,
        models: Mapping[str, Model],
        bindings: Bindings,
        arms: Mapping[str, Arms],
        scored: ScoredBatch,
        pending: dict[str | Arm, list[PendingRequest]],
        started: float,
        retry: FaultRetry,
    ) -> None:
        max_bytes = self._max_request_bytes
        binding = bindings.get(scored.batch.tp.topic)
        for record in scored.batch.records:
            headers = headers_of(record)
            milliseconds = record.timestamp()[1]
            try:
                if isinstance(record, UnreadableRecord):
                    raise InvalidRequest(record.reason, record.explanation)
                # A record of a source, or one that was sent again.
                place = None if binding is not None or not headers else source_of(headers)
                if binding is not None or place is not None:
                    bound = self._read_bound(
                        binding or _binding(bindings, place), place, record, headers, scored, retry
                    )
                    if bound is None:
                        continue
                    row, refusal = bound
                    request = row.request
                    if refusal:
                        if arms and (split := arms.get(request.model)) is not None:
                            # By what the failed request has of a key. Its features are refused, whoever answers.
                            row.arm = split.of(request.features, record.key(), request.request_id)
                        version = models[request.model].version if request.model in models else UNSET
                        self._outcomes.fail(row, Error("invalid_features", refusal), version, started, 0.0)
                        continue
                else:
                    request = read_request(record.value(), max_bytes)
                    if not 0 <= milliseconds <= MAX_MILLISECONDS:
                        raise without_time(request, milliseconds)
                    row = PendingRequest(request, None, record, headers, scored, milliseconds)
            except InvalidRequest as error:
                self._outcomes.dead_letter(record, headers, scored, error)
                continue
            model = models.get(request.model)
            if model is None:
                known = ", ".join(sorted(models)) or "none"
                what = f"model: no model is named {request.model!r}; this worker serves: {known}"
                self._outcomes.fail(row, Error("unknown_model", what), UNSET, started, 0.0)
                continue
            group: str | Arm = request.model
            if arms and (split := arms.get(request.model)) is not None:
                row.arm = group = split.of(request.features, record.key(), request.request_id)
                model = row.arm.model
            try:
                row.features = model.decode(request.features)
            except Exception as error:
                failure = self._decode_again(model, row, error, retry)
                if failure is not None:
                    completed = self._outcomes.fail(row, failure, model.version, started, 0.0)
                    if row.arm is not None:
                        self._on_arm(request.model, row.arm.record.arm, 1)
                        self._shadows += arms[request.model].shadowed([row], [None], completed, 0.0)
                    continue
            rows = pending.get(group)
            if rows is None:
                rows = pending[group] = []
            rows.append(row)

    def _read_bound(
        self,
        binding: Binding,
        place: SourcePosition | None,
        record: Any,
        headers: RecordHeaders,
        scored: ScoredBatch,
        retry: FaultRetry,
    ) -> tuple[PendingRequest, str] | None:
        """The request in a record of a source, and why its features are refused, if they are; None for a tombstone.

        Args:
            place: in the source, of a record that was sent again.

        Raises:
            InvalidRequest: it becomes a dead letter.
        """
        topic: str | UnsetType = UNSET
        if place is None:
            topic = binding.topic
            place = SourcePosition(topic, record.partition(), record.offset())
        try:
            mapped = binding.read(record, headers, place, self._max_request_bytes)
        except SchemaRegistryAway:
            # No record is to blame: the batch waits, and in the end the worker begins anew.
            mapped = retry(partial(binding.read, record, headers, place, self._max_request_bytes))
        if mapped is None:
            scored.tombstones += 1
            return None
        scored.unknown_fields += binding.unknown_fields(record)
        request = PredictionRequested(mapped.request_id, binding.model, mapped.features, mapped.requested_at)
        origin = Origin(binding, place, mapped.included, record.value() if binding.is_enriched else b"", topic)
        kind, milliseconds = record.timestamp()
        milliseconds = binding.accepted_at(kind, milliseconds, self._clock())
        return PendingRequest(request, None, record, headers, scored, milliseconds, origin), mapped.refusal

    def _decode_again(self, model: Model, row: PendingRequest, error: Exception, retry: FaultRetry) -> Error | None:
        """Decode the features after a fault of the machine; returns why they can't be decoded, None if they are."""
        request = row.request
        try:
            if not is_machine_fault(error):
                raise error
            row.features = retry(partial(model.decode, request.features))
        except MachineFaultError:
            raise
        except ValueError as refused:
            return Error("invalid_features", rejection_message(refused)[:MAX_ERROR_CHARACTERS])
        except Exception as mistake:
            # A mistake in the model's code: it would end every worker that reads this record.
            what = f"model {request.model}: decode raised {describe_origin(mistake)}"
            logger.warning(what, exc_info=True, extra=request_context(request, row.headers))
            return Error("prediction_error", what)
        return None

    def _predict_arm(self, arms: Arms, arm: Arm, rows: list[PendingRequest], started: float, retry: FaultRetry) -> None:
        self._on_arm(rows[0].request.model, arm.record.arm, len(rows))
        self._predict(arm.model, rows, started, retry, arms)

    def _predict(
        self, model: Model, rows: list[PendingRequest], started: float, retry: FaultRetry, arms: Arms | None = None
    ) -> None:
        features = [row.features for row in rows]
        calls = predict_or_bisect(model, features, max_bytes=MAX_PREDICTION_BYTES, clock=self._clock, retry=retry)
        for call in calls:
            if call.error is None:
                answered = rows[call.rows]
                completed = self._outcomes.complete(model.version, answered, call.encoded, started, call.seconds)
                if arms is not None:
                    self._shadows += arms.shadowed(answered, call.encoded, completed, call.seconds)
                continue
            (row,) = rows[call.rows]
            # Type and place only: a model's message may quote the features.
            what = f"model {row.request.model}: predict raised {describe_origin(call.error)}"
            logger.warning(what, exc_info=call.error, extra=request_context(row.request, row.headers))
            completed = self._outcomes.fail(row, Error("prediction_error", what), model.version, started, call.seconds)
            if arms is not None:
                self._shadows += arms.shadowed([row], [None], completed, call.seconds)


def _binding(bindings: Bindings, place: SourcePosition | None) -> Binding:
    """The binding of a record that was sent again."""
    topic = "" if place is None else place.topic
    binding = bindings.get(topic)
    if binding is None:
        known = ", ".join(sorted(bindings)) or "none"
        raise InvalidRequest("invalid_request", f"header {SOURCE}: no model reads {topic}; there are: {known}")
    return binding
