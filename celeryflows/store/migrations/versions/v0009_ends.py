"""Runs that ended badly are found by their flow: nothing that a run which ends well pays for."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BADLY = "status IN ('failed', 'cancelled', 'skipped')"


def upgrade() -> None:
    """Add the index; older code goes on beside it."""
    where = sa.text(BADLY)
    columns = ["flow", "status", "id"]
    op.create_index("flows_runs_by_end", "flows_runs", columns, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """Drop it."""
    op.drop_index("flows_runs_by_end", table_name="flows_runs")
