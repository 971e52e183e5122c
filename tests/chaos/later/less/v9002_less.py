"""A release later the index, the table and most of the columns are not needed any more."""

import sqlalchemy as sa
from alembic import op

revision = "9002"
down_revision = "9001"
branch_labels = None
depends_on = None

UNUSED = ("flows_events", "flows_runs", "flows_steps", "flows_waits")


def upgrade() -> None:
    """Drop them."""
    op.drop_table("flows_later")
    op.drop_index("flows_runs_later", table_name="flows_runs")
    for table in UNUSED:
        op.drop_column(table, "later")


def downgrade() -> None:
    """Bring them back."""
    for table in reversed(UNUSED):
        op.add_column(table, sa.Column("later", sa.String(64)))
    op.create_index("flows_runs_later", "flows_runs", ["later", "id"])
    op.create_table("flows_later", sa.Column("id", sa.String(64), nullable=False), sa.PrimaryKeyConstraint("id"))
