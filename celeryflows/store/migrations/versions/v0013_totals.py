"""Totals that only grow, for monitors, and what the figures have of events, steps, retries and skips beside runs."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

ID = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")
LATER = ("events", "steps", "retries", "rate_limited", "singletons", "duplicates", "paused")


def upgrade() -> None:
    """Add them; older code goes on beside it."""
    for name in LATER:
        op.add_column("flows_figures", sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("flows_figures", sa.Column("took", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.create_table(
        "flows_totals",
        sa.Column("flow", ID, nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("flow", "name"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("flows_totals")
    for name in ("took", *reversed(LATER)):
        op.drop_column("flows_figures", name)
