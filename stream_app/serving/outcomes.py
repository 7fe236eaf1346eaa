"""Outcomes: the outputs of requests, built and collected by partition batch. Pure: neither Kafka nor Faust."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.headers import RecordHeaders, traceparent_of
from machine_learning_engineering.events.schemas import Error, PredictionCompleted, PredictionFailed, PredictionLogged
from machine_learning_engineering.observability import logging as service_log
from machine_learning_engineering.observability.redaction import ALL, WITHHELD, Redaction, Redactor
from stream_app.serving.arms import Arm
from stream_app.serving.batch import PartitionBatch
from stream_app.serving.bindings import Binding, Origin
from stream_app.serving.bound_results import SLOT, BoundResults, failed_output, template, too_large
from stream_app.serving.outputs import OutputRecord, dead_letter_record, output_record
from stream_app.serving.replies import Reply, ReplyRules
from stream_app.serving.request import InvalidRequest

logger = logging.getLogger(__name__)

_encode_lines = msgspec.json.Encoder().encode_lines


class OutputTopics(NamedTuple):
    """The full names of the topics that a worker writes."""

    results: str
    logs: str
    dead_letters: str


@dataclass(slots=True)
class ScoredBatch:
    """A partition batch with its outputs, by topic: all of them must be acknowledged before its offset is committed."""

    batch: PartitionBatch
    outputs: dict[str, list[OutputRecord]]
    offsets: dict[str, list[int]]
    """By topic, except that of dead letters: the offset of the request of each output."""
    replies: list[Reply] = field(default_factory=list)
    completed: int = 0
    failed: int = 0
    dead_letters: int = 0
    prediction_bytes: int = 0  # Those of one call are all counted in the batch of its first row.
    tombstones: int = 0
    unknown_fields: int = 0

    @classmethod
    def empty(cls, batch: PartitionBatch, topics: OutputTopics) -> "ScoredBatch":
        """A batch without outputs."""
        return cls(batch, {topic: [] for topic in topics}, {topics.results: [], topics.logs: []})

    def of_topic(self, topic: str) -> tuple[list[OutputRecord], list[int]]:
        """The outputs for a topic, and the offsets of their requests: what is appended to both is published."""
        return self.outputs.setdefault(topic, []), self.offsets.setdefault(topic, [])


class PendingRequest(Struct, gc=False):
    """A request that waits for its prediction, with the batch that it belongs to."""

    request: events.PredictionRequested
    features: Any
    record: Any
    headers: RecordHeaders
    scored: ScoredBatch
    milliseconds: int  # Time of acceptance.
    origin: Origin | None = None
    arm: Arm | None = None


def _encoded_ids(rows: Sequence[PendingRequest]) -> Iterator[tuple[bytes, bytes]]:
    """The id and the time of each request, as JSON."""
    values: list[str | datetime] = []
    for row in rows:
        requested_at = row.request.requested_at
        if requested_at is UNSET:
            requested_at = datetime.fromtimestamp(row.milliseconds / 1000.0, UTC)
        values += (row.request.request_id, requested_at)
    # JSON escapes line breaks.
    lines = iter(_encode_lines(values).split(b"\n"))
    return zip(lines, lines, strict=False)


class Outcomes:
    """Builds the outputs of requests and adds them to the scored batches of these requests.

    Args:
        topics: full names of the topics that outputs are for.
        clock: returns seconds since the epoch.
        redaction: rules for the features in log records.
        replies: which topics requests may name for a reply; without, none.
    """

    def __init__(
        self,
        topics: OutputTopics,
        clock: Callable[[], float],
        redaction: Redaction,
        replies: ReplyRules | None = None,
    ) -> None:
        self._topics = topics
        self._clock = clock
        self._redaction = redaction
        self._replies = replies

    def use_redaction(self, rules: Redaction) -> None:
        """Use these rules from now on."""
        self._redaction = rules

    def complete(
        self, version: str, rows: list[PendingRequest], encoded: Sequence[bytes], started: float, score_seconds: float
    ) -> float:
        """Add the result and log record of each row of one predict call, in order. Returns when that was.

        Two records for each request are the largest part of the worker's own time. So what is the same for many rows
        is encoded once, as a template with slots; the templates come from the events, which stay the only schema.
        """
        completed = self._clock()
        completed_at = datetime.fromtimestamp(completed, UTC)
        model = rows[0].request.model
        # Rows of one call are of one arm.
        arm = rows[0].arm
        rollout = UNSET if arm is None else arm.record
        event = PredictionCompleted(SLOT, model, version, SLOT, SLOT, completed_at, rollout=rollout)
        result, bound = template(event), BoundResults(event)
        redact = self._redactor(rows[0])
        redacted = UNSET if redact is None else redact.names

        def log_template(row: PendingRequest) -> list[bytes]:
            accepted = row.milliseconds / 1000.0
            return template(
                PredictionLogged(
                    request_id=SLOT,
                    model=model,
                    outcome="completed",
                    features=SLOT,
                    requested_at=SLOT,
                    accepted_at=datetime.fromtimestamp(accepted, UTC),
                    completed_at=completed_at,
                    queue_seconds=max(0.0, started - accepted),
                    score_seconds=score_seconds,
                    total_seconds=max(0.0, completed - accepted),
                    batch_size=len(rows),
                    partition=row.record.partition(),
                    offset=SLOT,
                    model_version=version,
                    prediction=SLOT,
                    traceparent=(traceparent_of(row.headers) or UNSET) if row.headers else UNSET,
                    redacted=redacted,
                    topic=UNSET if row.origin is None else row.origin.topic,
                    rollout=rollout,
                )
            )

        join = b"".join
        result_0, result_1, result_2, result_3 = result
        scored: ScoredBatch | None = None
        binding: Binding | None = None
        milliseconds = -1
        for row, prediction, (request_id, requested_at) in zip(rows, encoded, _encoded_ids(rows), strict=True):
            record, headers, features = row.record, row.headers, row.request.features
            if row.scored is not scored:
                scored, milliseconds = row.scored, -1
                results, result_offsets = scored.of_topic(self._topics.results)
                logs, log_offsets = scored.of_topic(self._topics.logs)
                binding = None
            # At high load many records of a partition share a millisecond.
            if headers or row.milliseconds != milliseconds:
                log_0, log_1, log_2, log_3, log_4, log_5 = log_template(row)
                milliseconds = -1 if headers else row.milliseconds
            if redact is not None:
                features = redact(features)
            offset = record.offset()
            key = record.key()
            if row.origin is not None:
                answer = bound.output(row, request_id, prediction, requested_at)
                if answer is None:
                    self.fail(row, too_large(row.origin.binding), version, started, score_seconds)
                    continue
                if row.origin.binding is not binding:
                    binding = row.origin.binding
                    own, own_offsets = scored.of_topic(binding.results)
                own.append(answer)
                own_offsets.append(offset)
            else:
                value = join((result_0, request_id, result_1, prediction, result_2, requested_at, result_3))
                answer = (key, value, None)
                if headers:
                    answer = output_record(key, value, PredictionCompleted, row.request.request_id, headers)
                    if self._replies is not None:
                        self._reply(row, answer)
                results.append(answer)
                result_offsets.append(offset)
            log = join(
                (
                    log_0,
                    request_id,
                    log_1,
                    features,
                    log_2,
                    requested_at,
                    log_3,
                    b"%d" % offset,
                    log_4,
                    prediction,
                    log_5,
                )
            )
            if headers:
                logs.append(output_record(key, log, PredictionLogged, row.request.request_id, headers))
            else:
                logs.append((key, log, None))
            log_offsets.append(offset)
            scored.completed += 1
        rows[0].scored.prediction_bytes += sum(map(len, encoded))
        return completed

    def fail(
        self, row: PendingRequest, error: Error, version: str | UnsetType, started: float, score_seconds: float
    ) -> float:
        request, record = row.request, row.record
        completed = self._clock()
        completed_at = datetime.fromtimestamp(completed, UTC)
        accepted = row.milliseconds / 1000.0
        accepted_at = datetime.fromtimestamp(accepted, UTC)
        requested_at = accepted_at if request.requested_at is UNSET else request.requested_at
        headers = row.headers
        features, redacted = self._loggable(row, error)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("failed: %s: %s", error.type, error.message, extra=request_context(request, headers))
        rollout = UNSET if row.arm is None else row.arm.record
        result = PredictionFailed(
            request.request_id, request.model, error, requested_at, completed_at, version, rollout=rollout
        )
        log = PredictionLogged(
            request_id=request.request_id,
            model=request.model,
            outcome="failed",
            features=features,
            requested_at=requested_at,
            accepted_at=accepted_at,
            completed_at=completed_at,
            queue_seconds=max(0.0, started - accepted),
            score_seconds=score_seconds,
            total_seconds=max(0.0, completed - accepted),
            batch_size=1,
            partition=record.partition(),
            offset=record.offset(),
            model_version=version,
            error=error,
            traceparent=(traceparent_of(headers) or UNSET) if headers else UNSET,
            redacted=redacted,
            topic=UNSET if row.origin is None else row.origin.topic,
            rollout=rollout,
        )
        key, request_id = record.key(), request.request_id
        if row.origin is None:
            topic = self._topics.results
            answer = output_record(key, events.encode(result), PredictionFailed, request_id, headers)
            if headers and self._replies is not None:
                self._reply(row, answer)
        else:
            topic, answer = row.origin.binding.results, failed_output(row, result)
        logged = output_record(key, events.encode(log), PredictionLogged, request_id, headers)
        for name, output in ((topic, answer), (self._topics.logs, logged)):
            outputs, offsets = row.scored.of_topic(name)
            outputs.append(output)
            offsets.append(log.offset)
        row.scored.failed += 1
        return completed

    def _redactor(self, row: PendingRequest) -> Redactor | None:
        """That of the version which answers."""
        return self._redaction.by_model.get(row.request.model) if row.arm is None else row.arm.redact

    def _reply(self, row: PendingRequest, result: OutputRecord) -> None:
        """Add the reply to a request that asks for one."""
        assert self._replies is not None
        key, value, carried = result
        reply = self._replies.reply(row.headers, key, value or b"", cast(list[tuple[str, bytes]], carried or []))
        if reply is not None:
            row.scored.replies.append(reply)

    def _loggable(self, row: PendingRequest, error: Error) -> tuple[Raw, Any]:
        """The features to log for a failed request, and the names of the redacted ones.

        Where rules apply, features that no model has decoded are withheld: it is unknown which of them is which.
        """
        redact = self._redactor(row)
        if redact is not None and row.features is not None:
            return redact(row.request.features), redact.names
        if redact is not None or (self._redaction.active and error.type == "unknown_model"):
            return WITHHELD, [ALL]
        return row.request.features, UNSET

    def dead_letter(self, record: Any, headers: RecordHeaders, scored: ScoredBatch, error: InvalidRequest) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            context = service_log.request_context(
                error.request_id or "", error.model or "", traceparent_of(headers) or UNSET
            )
            logger.debug("dead letter: %s: %s", error.reason, error, extra=context)
        scored.outputs[self._topics.dead_letters].append(dead_letter_record(record, headers, error))
        scored.dead_letters += 1


def request_context(request: events.PredictionRequested, headers: Any) -> dict[str, Any]:
    return service_log.request_context(request.request_id, request.model, traceparent_of(headers) or UNSET)
