"""The tables of the archive. `migrations/` makes them; a test compares both.

JSON values are kept as they were sent, on PostgreSQL in columns of the type `json`, on SQLite as text. Both databases
read them with `->>`. A value that a database can't read again (with NUL in a text, deeper than `MAX_DEPTH`) would end
every query over its column: it is kept beside it, in a column of text.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Double, Index, MetaData, PrimaryKeyConstraint, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from machine_learning_engineering.core.timestamps import to_utc

MAX_DEPTH = 100
"""Levels of nesting that a JSON column holds."""


class _PostgresJson(UserDefinedType[str]):
    """`json` that takes and gives its text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """See `UserDefinedType`."""
        return "JSON"


class Json(TypeDecorator[str]):
    """JSON text."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """See `TypeDecorator`."""
        return dialect.type_descriptor(_PostgresJson() if dialect.name == "postgresql" else Text())


class Moment(TypeDecorator[datetime]):
    """A point in time, to the microsecond, in UTC. SQLite keeps it as text that sorts."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """See `TypeDecorator`."""
        if value is None:
            return None
        utc = to_utc(value)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """See `TypeDecorator`."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


# Ids are compared by their bytes, whatever the locale of the database.
_Bytewise = Text().with_variant(Text(collation="C"), "postgresql")

metadata = MetaData()

predictions = Table(
    "predictions",
    metadata,
    Column("request_id", _Bytewise, nullable=False),
    Column("model", _Bytewise, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("features", Json),
    Column("features_text", Text),
    Column("prediction", Json),
    Column("prediction_text", Text),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("requested_at", Moment, nullable=False),
    Column("accepted_at", Moment, nullable=False),
    Column("completed_at", Moment, nullable=False),
    Column("queue_seconds", Double, nullable=False),
    Column("score_seconds", Double, nullable=False),
    Column("total_seconds", Double, nullable=False),
    Column("batch_size", BigInteger, nullable=False),
    Column("kafka_partition", BigInteger),
    Column("kafka_offset", BigInteger),
    Column("traceparent", Text),
    Column("redacted", Json),
    Column("fingerprint", Text, nullable=False),
    Column("rollout_id", Text),
    Column("rollout_arm", Text),
    Column("rollout_champion", Text),
    Column("rollout_challenger", Text),
    Column("rollout_salt", Text),
    Column("rollout_percent", BigInteger),
    PrimaryKeyConstraint("request_id", name="predictions_pkey"),
)
Index("predictions_by_model", predictions.c.model, predictions.c.accepted_at, predictions.c.request_id)
Index("predictions_by_time", predictions.c.accepted_at)

# A table of its own: labels come before their requests, and days after them.
labels = Table(
    "labels",
    metadata,
    Column("request_id", _Bytewise, nullable=False),
    Column("model", _Bytewise, nullable=False),
    Column("label", Json),
    Column("label_text", _Bytewise, nullable=False),
    Column("observed_at", Moment, nullable=False),
    Column("reported_at", Moment, nullable=False),
    Column("source", Text),
    PrimaryKeyConstraint("request_id", "model", name="labels_pkey"),
)
Index("labels_by_time", labels.c.reported_at)

api_calls = Table(
    "api_calls",
    metadata,
    Column("call_id", _Bytewise, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("method", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("status", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("caller", Text),
    Column("model", Text),
    Column("model_version", Text),
    Column("request_id", _Bytewise),
    Column("rows", BigInteger),
    Column("problem", Text),
    Column("request_bytes", BigInteger, nullable=False),
    Column("response_bytes", BigInteger, nullable=False),
    Column("query", Json),
    Column("query_text", Text),
    Column("request_body", Json),
    Column("request_body_text", Text),
    Column("response_body", Json),
    Column("response_body_text", Text),
    Column("redacted", Json),
    Column("traceparent", Text),
    PrimaryKeyConstraint("call_id", name="api_calls_pkey"),
)
Index("api_calls_by_time", api_calls.c.started_at)
Index("api_calls_by_request", api_calls.c.request_id)

AGES = {
    "predictions": predictions.c.accepted_at,
    "labels": labels.c.reported_at,
    "api_calls": api_calls.c.started_at,
}
"""The time by which a row of each table is deleted."""
