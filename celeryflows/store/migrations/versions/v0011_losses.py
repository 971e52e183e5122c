"""A unit whose worker was lost remembers since when: what its step at hand provoked before that counts for its wait."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the moment to runs and branches; older code goes on beside it."""
    for table in ("flows_runs", "flows_branches"):
        op.add_column(table, sa.Column("lost_since", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Drop it."""
    for table in ("flows_branches", "flows_runs"):
        op.drop_column(table, "lost_since")
