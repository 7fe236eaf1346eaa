"""The archive as a `PredictionLog`."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType
from sqlalchemy import Row as Found
from sqlalchemy import Select, Text, and_, cast, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from machine_learning_engineering.core.json_values import canonical_json
from machine_learning_engineering.core.timestamps import aware
from machine_learning_engineering.events.schemas import Error
from machine_learning_engineering.prediction_log.store import (
    NotLogged,
    PredictionLog,
    PredictionLogError,
    PredictionRecord,
    encode_label,
)
from monitoring.archive.database import ArchiveError, Database, describe, reason
from monitoring.archive.rows import Row, id_text, new_label, prediction_row
from monitoring.archive.store import Store
from monitoring.archive.tables import labels, predictions
from monitoring.documents.prediction_record import logged_event

_PAGE = 1_000
_decode_names = msgspec.json.Decoder(list[str]).decode
T = TypeVar("T")


class ArchivePredictionLog(PredictionLog, AbstractContextManager["ArchivePredictionLog"]):
    """The tables `predictions` and `labels` as a `PredictionLog`. Threads and processes may share it.

    A request id with NUL is kept in another form, see `rows.id_text`. Features and predictions with NUL in a text are
    kept as text.

    Args:
        url: see `Database`. The tables are made if they are missing.

    Raises:
        PredictionLogError: the database can't be opened, or a newer release made its tables.
    """

    def __init__(self, url: str) -> None:
        try:
            self._database = Database(url)
        except ArchiveError as error:
            raise PredictionLogError(str(error)) from error
        self._store = Store(self._database)
        insert = postgresql.insert if self._database.is_postgresql else sqlite.insert
        self._insert = (
            insert(predictions)
            .on_conflict_do_nothing(index_elements=["request_id"])
            .returning(predictions.c.request_id)
        )
        try:
            self._ask(self._database.upgrade, "opened")
        except BaseException:
            self._database.close()
            raise

    def append(self, records: Iterable[PredictionRecord]) -> int:
        """See `PredictionLog.append`."""
        rows: dict[str, tuple[Row, PredictionRecord]] = {}
        for record in records:
            row = _row(record)
            rows.setdefault(row.key[0], (row, record))
        if not rows:
            return 0
        return self._ask(lambda: self._append(rows), "written")

    def _append(self, rows: dict[str, tuple[Row, PredictionRecord]]) -> int:
        with self._database.writing() as connection:
            ordered = [rows[key][0].values for key in sorted(rows)]
            new: list[str] = list(connection.execute(self._insert, ordered).scalars())
            found = [label for key in new if (label := _label(rows[key][1])) is not None]
            self._store.upsert(connection, "labels", [one.values for one in found])
            return len(new)

    def read(
        self,
        model: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
    ) -> Iterator[PredictionRecord]:
        """See `PredictionLog.read`. It may include records that are appended while it runs."""
        found = predictions.c
        query = _QUERY.where(found.model == model)
        if since is not None:
            query = query.where(found.accepted_at >= aware(since))
        if until is not None:
            query = query.where(found.accepted_at < aware(until))
        if version is not None:
            query = query.where(found.model_version == version)
        page = self._page(query)
        while page:
            for one in page:
                yield self._record(one)
            if len(page) < _PAGE:
                return
            after = tuple_(page[-1].accepted_at, page[-1].request_id, types=[_AT.type, _ID.type])
            page = self._page(query.where(tuple_(_AT, _ID) > after))

    def label(self, request_id: str, label: Any) -> None:
        """See `PredictionLog.label`. Its time of observation is now, compared with labels that are reported."""
        text = canonical_json(encode_label(label)) or b"null"
        self._ask(lambda: self._set_label(request_id, text), "written")

    def _set_label(self, request_id: str, text: bytes) -> None:
        with self._database.writing() as connection:
            found = predictions.c
            model = connection.scalar(select(found.model).where(found.request_id == id_text(request_id)))
            if model is None:
                raise NotLogged(f"request {request_id!r} is not in the archive {self._database.shown}")
            # After any other label, even one of the same microsecond.
            last = connection.scalar(
                select(func.max(labels.c.observed_at)).where(
                    labels.c.request_id == id_text(request_id), labels.c.model == model
                )
            )
            now = datetime.now(UTC)
            at = now if last is None or last < now else last + timedelta(microseconds=1)
            self._store.upsert(connection, "labels", [new_label(request_id, model, text, at, now).values])

    def close(self) -> None:
        """Close the connections; the log can't be used afterwards."""
        self._database.close()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _page(self, query: Select[Any]) -> list[Found[Any]]:
        def ask() -> list[Found[Any]]:
            with self._database.reading() as connection:
                return list(connection.execute(query))

        return self._ask(ask, "read")

    def _record(self, found: Found[Any]) -> PredictionRecord:
        try:
            return _record(found)
        except (ValueError, RecursionError, TypeError) as error:
            what = f"request {found.request_id!r:.300} is damaged ({type(error).__name__})"
            raise PredictionLogError(f"the archive {self._database.shown} can't be read: {what}") from error

    def _ask(self, call: Callable[[], T], verb: str) -> T:
        try:
            return call()
        except SQLAlchemyError as error:
            why = reason(error) or describe(error)
            raise PredictionLogError(f"the archive {self._database.shown} can't be {verb}: {why}") from error
        except (ArchiveError, OSError) as error:
            raise PredictionLogError(f"the archive {self._database.shown} can't be {verb}: {error}") from error


_AT, _ID = predictions.c.accepted_at, predictions.c.request_id
_QUERY = (
    select(
        _ID,
        _AT,
        *(predictions.c[name] for name in ("model", "model_version", "outcome", "score_seconds", "batch_size")),
        *(predictions.c[name] for name in ("error_type", "error_message", "features_text", "prediction_text")),
        # As text: a driver would decode it.
        *(cast(predictions.c[name], Text).label(name) for name in ("features", "prediction", "redacted")),
        labels.c.label_text,
        labels.c.source,
    )
    .select_from(predictions.outerjoin(labels, and_(labels.c.request_id == _ID, labels.c.model == predictions.c.model)))
    .order_by(_AT, _ID)
    .limit(_PAGE)
)


def _row(record: PredictionRecord) -> Row:
    """The row of a record that did not come from a topic."""
    row = prediction_row(logged_event(record))
    return row._replace(values=row.values | {"kafka_partition": None, "kafka_offset": None})


def _label(record: PredictionRecord) -> Row | None:
    if isinstance(record.label, UnsetType):
        return None
    text = canonical_json(record.label) or b"null"
    source = None if isinstance(record.label_source, UnsetType) else record.label_source
    return new_label(record.request_id, record.model, text, record.created_at, record.created_at, source)


def _record(found: Found[Any]) -> PredictionRecord:
    outcome: Any = found.outcome
    kind: Any = found.error_type
    features = _value(found.features, found.features_text)
    return PredictionRecord(
        request_id=found.request_id,
        model=found.model,
        model_version=found.model_version,
        outcome=outcome,
        features=Raw(b"{}") if isinstance(features, UnsetType) else features,
        created_at=found.accepted_at,
        score_seconds=found.score_seconds,
        batch_size=found.batch_size,
        prediction=_value(found.prediction, found.prediction_text),
        error=UNSET if kind is None else Error(kind, found.error_message or ""),
        label=UNSET if found.label_text is None else Raw(found.label_text.encode()),
        label_source=found.source or UNSET,
        redacted=UNSET if found.redacted is None else _decode_names(found.redacted),
    )


def _value(value: str | None, text: str | None) -> Raw | UnsetType:
    """A JSON value from its two columns; text that is no JSON is a JSON string."""
    if value is not None:
        return Raw(value.encode())
    if text is None:
        return UNSET
    sent = text.encode()
    return Raw(sent if canonical_json(sent) is not None else msgspec.json.encode(text))
