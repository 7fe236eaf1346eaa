"""Predictions, labels and calls of the API."""

import sqlalchemy as sa
from alembic import op

from monitoring.archive.tables import Json, Moment

revision = "0001"
down_revision = None

_BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make everything."""
    op.create_table(
        "predictions",
        sa.Column("request_id", _BYTEWISE, nullable=False),
        sa.Column("model", _BYTEWISE, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("features", Json),
        sa.Column("features_text", sa.Text),
        sa.Column("prediction", Json),
        sa.Column("prediction_text", sa.Text),
        sa.Column("error_type", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("requested_at", Moment, nullable=False),
        sa.Column("accepted_at", Moment, nullable=False),
        sa.Column("completed_at", Moment, nullable=False),
        sa.Column("queue_seconds", sa.Double, nullable=False),
        sa.Column("score_seconds", sa.Double, nullable=False),
        sa.Column("total_seconds", sa.Double, nullable=False),
        sa.Column("batch_size", sa.BigInteger, nullable=False),
        sa.Column("kafka_partition", sa.BigInteger),
        sa.Column("kafka_offset", sa.BigInteger),
        sa.Column("traceparent", sa.Text),
        sa.Column("redacted", Json),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="predictions_pkey"),
    )
    op.create_index("predictions_by_model", "predictions", ["model", "accepted_at", "request_id"])
    op.create_index("predictions_by_time", "predictions", ["accepted_at"])
    op.create_table(
        "labels",
        sa.Column("request_id", _BYTEWISE, nullable=False),
        sa.Column("model", _BYTEWISE, nullable=False),
        sa.Column("label", Json),
        sa.Column("label_text", _BYTEWISE, nullable=False),
        sa.Column("observed_at", Moment, nullable=False),
        sa.Column("reported_at", Moment, nullable=False),
        sa.Column("source", sa.Text),
        sa.PrimaryKeyConstraint("request_id", "model", name="labels_pkey"),
    )
    op.create_index("labels_by_time", "labels", ["reported_at"])
    op.create_table(
        "api_calls",
        sa.Column("call_id", _BYTEWISE, nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("status", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("caller", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("model_version", sa.Text),
        sa.Column("request_id", _BYTEWISE),
        sa.Column("rows", sa.BigInteger),
        sa.Column("problem", sa.Text),
        sa.Column("request_bytes", sa.BigInteger, nullable=False),
        sa.Column("response_bytes", sa.BigInteger, nullable=False),
        sa.Column("query", Json),
        sa.Column("query_text", sa.Text),
        sa.Column("request_body", Json),
        sa.Column("request_body_text", sa.Text),
        sa.Column("response_body", Json),
        sa.Column("response_body_text", sa.Text),
        sa.Column("redacted", Json),
        sa.Column("traceparent", sa.Text),
        sa.PrimaryKeyConstraint("call_id", name="api_calls_pkey"),
    )
    op.create_index("api_calls_by_time", "api_calls", ["started_at"])
    op.create_index("api_calls_by_request", "api_calls", ["request_id"])
    op.execute(
        "CREATE VIEW labelled_predictions AS SELECT p.*, l.label, l.label_text, l.observed_at AS label_observed_at, "
        "l.reported_at AS label_reported_at, l.source AS label_source FROM predictions p "
        "JOIN labels l ON l.request_id = p.request_id AND l.model = p.model"
    )


def downgrade() -> None:
    """Nothing older exists."""
    raise NotImplementedError
