"""What the pages show beside runs and steps: attempts that failed, figures and backlogs over time."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")
KEY = sa.String(512).with_variant(sa.String(512, collation="C"), "postgresql").with_variant(sa.String(490), "mariadb")
LONG = sa.Text()

COUNTS = ("made", "started", "unfinished", "completed", "failed", "cancelled", "skipped")
CLASSES = tuple(f"d{i}" for i in range(28))


def _counts(names: tuple[str, ...]) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False) for name in names]


def upgrade() -> None:
    """Add them; older code goes on beside it."""
    op.create_table(
        "flows_attempts",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", LONG, nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("took", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "key", "attempt"),
    )
    op.create_table(
        "flows_figures",
        sa.Column("flow", ID, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        *_counts(COUNTS),
        sa.Column("waited", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        *_counts(CLASSES),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("flow", "at"),
    )
    op.create_index("flows_figures_at", "flows_figures", ["at"])
    due = sa.text("next_at IS NOT NULL")
    op.create_index("flows_figures_due", "flows_figures", ["next_at"], postgresql_where=due, sqlite_where=due)
    op.create_table(
        "flows_backlogs",
        sa.Column("flow", ID, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("queued", sa.Integer(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.Column("oldest", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("flow", "at"),
    )
    op.create_index("flows_backlogs_at", "flows_backlogs", ["at"])


def downgrade() -> None:
    """Drop them."""
    for name in ("backlogs", "figures", "attempts"):
        op.drop_table(f"flows_{name}")
