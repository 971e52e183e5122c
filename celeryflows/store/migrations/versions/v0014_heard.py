"""The name of the event that started a run, in the run's own row: lists of one event's runs look up no event for it."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; older code goes on beside it, and of its runs the event is looked up."""
    op.add_column("flows_runs", sa.Column("event_name", sa.String(512), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("flows_runs", "event_name")
