"""What is shown of limits over time, of a step's arguments where a flow records them, and of crons that were missed."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ID = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")
GATE = (
    sa.String(64)
    .with_variant(sa.String(64, collation="C"), "postgresql")
    .with_variant(sa.String(64, collation="ascii_nopad_bin"), "mariadb")
)
LONG = sa.Text()


def upgrade() -> None:
    """Add them; older code goes on beside it."""
    op.create_table(
        "flows_limit_uses",
        sa.Column("limit_id", GATE, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.Column("gates", sa.Integer(), nullable=False),
        sa.Column("fullest", sa.Integer(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("limit_id", "at"),
    )
    op.create_index("flows_limit_uses_at", "flows_limit_uses", ["at"])
    op.add_column("flows_steps", sa.Column("given", LONG, nullable=True))
    op.add_column("flows_crons", sa.Column("missed_due", sa.BigInteger(), nullable=True))
    op.add_column("flows_crons", sa.Column("missed_seen", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    for name in ("missed_seen", "missed_due"):
        op.drop_column("flows_crons", name)
    op.drop_column("flows_steps", "given")
    op.drop_table("flows_limit_uses")
