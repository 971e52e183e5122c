"""A later release has more: columns in the tables that are written most, an index, a table."""

import sqlalchemy as sa
from alembic import op

from tests.chaos.later import TODAY

revision = "9001"
down_revision = TODAY
branch_labels = None
depends_on = None

WRITTEN = ("flows_events", "flows_runs", "flows_steps", "flows_waits", "flows_slots")


def upgrade() -> None:
    """Add them."""
    for table in WRITTEN:
        op.add_column(table, sa.Column("later", sa.String(64)))
    op.create_index("flows_runs_later", "flows_runs", ["later", "id"])
    op.create_table("flows_later", sa.Column("id", sa.String(64), nullable=False), sa.PrimaryKeyConstraint("id"))


def downgrade() -> None:
    """Drop them."""
    op.drop_table("flows_later")
    op.drop_index("flows_runs_later", table_name="flows_runs")
    for table in reversed(WRITTEN):
        op.drop_column(table, "later")
