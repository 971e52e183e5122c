"""The message that carries a run's turn, where it is not the run's own: one for several runs."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; older code goes on beside it, and takes no such messages."""
    op.add_column("flows_runs", sa.Column("carrier", sa.String(64), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("flows_runs", "carrier")
