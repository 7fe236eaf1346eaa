"""Outcomes: the outputs of requests, built and collected by partition batch. Pure: neither Kafka nor Faust."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from msgspec import UNSET, Raw, UnsetType

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.headers import RecordHeaders, traceparent_of
from machine_learning_engineering.events.schemas import Error, PredictionCompleted, PredictionFailed, PredictionLogged
from machine_learning_engineering.observability import logging as service_log
from machine_learning_engineering.observability.redaction import ALL, WITHHELD, Redaction
from stream_app.serving.batch import PartitionBatch
from stream_app.serving.outputs import OutputRecord, dead_letter_record, output_record
from stream_app.serving.replies import Reply, ReplyRules
from stream_app.serving.request import InvalidRequest

logger = logging.getLogger(__name__)


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
    offsets: list[int]
    """Of the request of each result, and of each log record."""
    replies: list[Reply] = field(default_factory=list)
    completed: int = 0
    failed: int = 0
    dead_letters: int = 0
    prediction_bytes: int = 0  # Those of one call are all counted in the batch of its first row.


@dataclass(slots=True)
class PendingRequest:
    """A request that waits for its prediction, with the batch that it belongs to."""

    request: events.PredictionRequested
    features: Any
    record: Any
    headers: RecordHeaders
    scored: ScoredBatch
    milliseconds: int  # Time of acceptance.


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

    def complete(
        self, version: str, rows: list[PendingRequest], encoded: Sequence[bytes], started: float, score_seconds: float
    ) -> None:
        results, logs = self._topics.results, self._topics.logs
        completed = self._clock()
        completed_at = datetime.fromtimestamp(completed, UTC)
        size = len(rows)
        redact = self._redaction.by_model.get(rows[0].request.model)
        redacted = UNSET if redact is None else redact.names
        # At high load many records share a millisecond, and making a datetime is a tenth of the whole path.
        times: dict[int, datetime] = {}
        rows[0].scored.prediction_bytes += sum(map(len, encoded))
        for row, prediction in zip(rows, map(Raw, encoded), strict=True):
            request, record = row.request, row.record
            milliseconds = row.milliseconds
            accepted = milliseconds / 1000.0
            accepted_at = times.get(milliseconds)
            if accepted_at is None:
                accepted_at = times[milliseconds] = datetime.fromtimestamp(accepted, UTC)
            requested_at = accepted_at if request.requested_at is UNSET else request.requested_at
            headers = row.headers
            key = record.key()
            result = PredictionCompleted(
                request.request_id, request.model, version, prediction, requested_at, completed_at
            )
            log = PredictionLogged(
                request.request_id,
                request.model,
                "completed",
                request.features if redact is None else redact(request.features),
                requested_at,
                accepted_at,
                completed_at,
                max(0.0, started - accepted),
                score_seconds,
                max(0.0, completed - accepted),
                size,
                record.partition(),
                record.offset(),
                version,
                prediction,
                UNSET,
                (traceparent_of(headers) or UNSET) if headers else UNSET,
                redacted,
            )
            outputs = row.scored.outputs
            record_of_result = output_record(key, result, headers)
            outputs[results].append(record_of_result)
            outputs[logs].append(output_record(key, log, headers))
            if headers and self._replies is not None:
                self._reply(row, record_of_result)
            row.scored.offsets.append(log.offset)
            row.scored.completed += 1

    def fail(
        self, row: PendingRequest, error: Error, version: str | UnsetType, started: float, score_seconds: float
    ) -> None:
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
        result = PredictionFailed(request.request_id, request.model, error, requested_at, completed_at, version)
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
        )
        key = record.key()
        outputs = row.scored.outputs
        record_of_result = output_record(key, result, headers)
        outputs[self._topics.results].append(record_of_result)
        outputs[self._topics.logs].append(output_record(key, log, headers))
        if headers and self._replies is not None:
            self._reply(row, record_of_result)
        row.scored.offsets.append(log.offset)
        row.scored.failed += 1

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
        redact = self._redaction.by_model.get(row.request.model)
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
