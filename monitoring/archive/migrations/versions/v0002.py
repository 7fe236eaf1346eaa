"""The arm of a rollout that answered a request."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; rows from before have none of them."""
    for name in ("rollout_id", "rollout_arm", "rollout_champion", "rollout_challenger", "rollout_salt"):
        op.add_column("predictions", sa.Column(name, sa.Text))
    op.add_column("predictions", sa.Column("rollout_percent", sa.BigInteger))
    # A view has the columns that its table had when it was made.
    op.execute("DROP VIEW labelled_predictions")
    op.execute(
        "CREATE VIEW labelled_predictions AS SELECT p.*, l.label, l.label_text, l.observed_at AS label_observed_at, "
        "l.reported_at AS label_reported_at, l.source AS label_source FROM predictions p "
        "JOIN labels l ON l.request_id = p.request_id AND l.model = p.model"
    )


def downgrade() -> None:
    """Older releases refuse this schema."""
    raise NotImplementedError
