"""Scoring: from the raw records of slices to what has to be published for them. Pure: no Kafka, no clock of its own."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time
from typing import Any, Protocol

from msgspec import UNSET, Raw

from machine_learning_engineering.core.error_text import describe_origin
from machine_learning_engineering.core.predict import predict_or_bisect
from machine_learning_engineering.core.validation import rejection_message
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.headers import RecordHeaders, headers_of, traceparent_of
from machine_learning_engineering.events.schemas import Error, PredictionCompleted, PredictionFailed, PredictionLogged
from machine_learning_engineering.events.topics import MEBIBYTE
from machine_learning_engineering.observability import logging as service_log
from machine_learning_engineering.observability.redaction import ALL, WITHHELD, Redaction
from stream_app.kafka.publisher import Record
from stream_app.serving.batch import PartitionBatch
from stream_app.serving.outputs import answer, letter
from stream_app.serving.request import InvalidRequest, read_request

logger = logging.getLogger(__name__)

MAX_PREDICTION_BYTES = MEBIBYTE
"""With a request beside it, it has to fit into a record of the log topic: what can't be published would never end."""


class Model(Protocol):
    """What scoring needs of a model; see `machine_learning_engineering.sdk.MLEModel`."""

    version: str

    def decode(self, raw: Raw) -> Any:
        """Features as the model's own Struct. Raises ValueError, whose message names the field."""

    def predict(self, rows: Sequence[Any]) -> Sequence[Any]:
        """One prediction a row, in order."""


@dataclass(frozen=True)
class OutputTopics:
    """The full names of the topics that a worker writes."""

    results: str
    logs: str
    dead_letters: str


@dataclass(slots=True)
class Scored:
    """A slice with everything that has to be acknowledged before its offset may be committed: one unit.

    `outputs` are by topic.
    """

    slice: PartitionBatch
    outputs: dict[str, list[Record]]
    completed: int = 0
    failed: int = 0
    dead_letters: int = 0


@dataclass(slots=True)
class _Row:
    """A request that waits for its prediction, and where the answer belongs."""

    request: events.PredictionRequested
    features: Any
    record: Any
    headers: RecordHeaders
    scored: Scored


class Scorer:
    """Scores slices with the models that it was given, by name."""

    def __init__(
        self,
        models: Mapping[str, Model],
        topics: OutputTopics,
        *,
        max_request_bytes: int,
        clock: Callable[[], float] = time,
        redaction: Redaction | None = None,
    ) -> None:
        self._models = models
        self._redaction = redaction or Redaction()
        self._topics = topics
        self._max_request_bytes = max_request_bytes
        self._clock = clock

    def score(self, slices: Sequence[PartitionBatch]) -> list[Scored]:
        """Score all records of `slices`, each model's rows in one predict call; one `Scored` a slice, in order."""
        started = self._clock()
        # One look, so that all rows of a model in a round meet the same version of it.
        models = self._models
        topics = self._topics
        answered = [Scored(slice_, {topics.results: [], topics.logs: [], topics.dead_letters: []}) for slice_ in slices]
        rows: dict[str, list[_Row]] = {}
        for scored in answered:
            for record in scored.slice.records:
                self._read(models, record, scored, rows, started)
        for name, of_model in rows.items():
            self._predict(models[name], of_model, started)
        return answered

    def serve(self, models: Mapping[str, Model]) -> None:
        """Score with these models from the next round on. For any thread."""
        self._models = models

    def _read(
        self,
        models: Mapping[str, Model],
        record: Any,
        scored: Scored,
        rows: dict[str, list[_Row]],
        started: float,
    ) -> None:
        headers = headers_of(record)
        try:
            request = read_request(record.key(), record.value(), self._max_request_bytes)
        except InvalidRequest as error:
            self._set_aside(record, headers, scored, error)
            return
        model = models.get(request.model)
        if model is None:
            known = ", ".join(sorted(models)) or "none"
            message = f"model: no model is named {request.model!r}; this worker serves: {known}"
            self._fail(
                _Row(request, None, record, headers, scored), Error("unknown_model", message), None, started, 0.0, 1
            )
            return
        try:
            features = model.decode(request.features)
        except ValueError as error:
            failure = Error("invalid_features", rejection_message(error))
            self._fail(_Row(request, None, record, headers, scored), failure, model, started, 0.0, 1)
            return
        except Exception as error:
            # A mistake in the model's code: this record would end every worker that it is given to.
            what = f"model {request.model}: decode raised {describe_origin(error)}"
            logger.warning(what, exc_info=True, extra=_about(request, headers))
            failure = Error("prediction_error", what)
            self._fail(_Row(request, None, record, headers, scored), failure, model, started, 0.0, 1)
            return
        rows.setdefault(request.model, []).append(_Row(request, features, record, headers, scored))

    def _predict(self, model: Model, rows: list[_Row], started: float) -> None:
        """Predict rows in one call, and again in halves where it raises, until each failing row stands alone."""
        calls = predict_or_bisect(
            model, [row.features for row in rows], max_bytes=MAX_PREDICTION_BYTES, clock=self._clock
        )
        for call in calls:
            chosen = rows[call.rows]
            if call.error is None:
                self._complete(model, chosen, list(map(Raw, call.encoded)), started, call.seconds)
                continue
            # Type and origin only: the message of a model's exception may quote the request.
            [row] = chosen
            message = f"model {row.request.model}: predict raised {describe_origin(call.error)}"
            logger.warning(message, exc_info=call.error, extra=_about(row.request, row.headers))
            self._fail(row, Error("prediction_error", message), model, started, call.seconds, 1)

    def _complete(
        self, model: Model, rows: list[_Row], predictions: Sequence[Raw], started: float, score_seconds: float
    ) -> None:
        results, logs = self._topics.results, self._topics.logs
        completed_at, completed = _now(self._clock())
        version, size = model.version, len(rows)
        redact = self._redaction.by_model.get(rows[0].request.model)
        redacted = UNSET if redact is None else redact.names
        # At high load many records share their millisecond, and making a datetime is a tenth of the whole path.
        times: dict[int, datetime] = {}
        for row, encoded in zip(rows, predictions, strict=True):
            request, record = row.request, row.record
            milliseconds = record.timestamp()[1]
            accepted = milliseconds / 1000.0
            accepted_at = times.get(milliseconds)
            if accepted_at is None:
                accepted_at = times[milliseconds] = datetime.fromtimestamp(accepted, UTC)
            requested_at = accepted_at if request.requested_at is UNSET else request.requested_at
            headers = row.headers
            key = record.key()
            result = PredictionCompleted(
                request.request_id, request.model, version, encoded, requested_at, completed_at
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
                encoded,
                UNSET,
                (traceparent_of(headers) or UNSET) if headers else UNSET,
                redacted,
            )
            outputs = row.scored.outputs
            outputs[results].append(answer(key, result, headers))
            outputs[logs].append(answer(key, log, headers))
            row.scored.completed += 1

    def _fail(
        self, row: _Row, error: Error, model: Model | None, started: float, score_seconds: float, size: int
    ) -> None:
        request, record = row.request, row.record
        completed_at, completed = _now(self._clock())
        accepted = record.timestamp()[1] / 1000.0
        accepted_at = datetime.fromtimestamp(accepted, UTC)
        requested_at = accepted_at if request.requested_at is UNSET else request.requested_at
        headers = row.headers
        version = UNSET if model is None else model.version
        features, redacted = self._loggable(row, error)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("failed: %s: %s", error.type, error.message, extra=_about(request, headers))
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
            batch_size=size,
            partition=record.partition(),
            offset=record.offset(),
            model_version=version,
            error=error,
            traceparent=(traceparent_of(headers) or UNSET) if headers else UNSET,
            redacted=redacted,
        )
        key = record.key()
        outputs = row.scored.outputs
        outputs[self._topics.results].append(answer(key, result, headers))
        outputs[self._topics.logs].append(answer(key, log, headers))
        row.scored.failed += 1

    def _loggable(self, row: _Row, error: Error) -> tuple[Raw, Any]:
        """The features of a failed request as they are logged, and the names of those that are not as they were sent.

        Where there are rules, features that no model has understood are withheld: nobody can say which of them is what.
        """
        redact = self._redaction.by_model.get(row.request.model)
        if redact is not None and row.features is not None:
            return redact(row.request.features), redact.names
        if redact is not None or (self._redaction.active and error.type == "unknown_model"):
            return WITHHELD, [ALL]
        return row.request.features, UNSET

    def _set_aside(self, record: Any, headers: RecordHeaders, scored: Scored, error: InvalidRequest) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            about_it = service_log.request_context(
                error.request_id or "", error.model or "", traceparent_of(headers) or UNSET
            )
            logger.debug("set aside: %s: %s", error.reason, error, extra=about_it)
        scored.outputs[self._topics.dead_letters].append(letter(record, headers, error))
        scored.dead_letters += 1


def _now(seconds: float) -> tuple[datetime, float]:
    return datetime.fromtimestamp(seconds, UTC), seconds


def _about(request: events.PredictionRequested, headers: Any) -> dict[str, Any]:
    return service_log.request_context(request.request_id, request.model, traceparent_of(headers) or UNSET)
