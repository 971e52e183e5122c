"""Calls of flows that are made in a caller's own transaction, until they are started."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")
LONG = sa.Text()


def upgrade() -> None:
    """Add their table; older code goes on beside it."""
    op.create_table(
        "flows_calls",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("flow", ID, nullable=False),
        sa.Column("version", sa.String(length=256), nullable=True),
        sa.Column("wake_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("id", ID, nullable=False),
        sa.Column("ext_id", ID, nullable=True),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("data", LONG, nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.Column("v", sa.String(length=256), nullable=True),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_index("flows_calls_stored", "flows_calls", ["stored_at"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("flows_calls")
