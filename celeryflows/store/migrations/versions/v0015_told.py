"""The schema that a worker's code wants, in its row: an upgrade that takes something away looks who needs it."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; older code goes on beside it and tells none."""
    op.add_column("flows_workers", sa.Column("schema_version", sa.String(32), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("flows_workers", "schema_version")
