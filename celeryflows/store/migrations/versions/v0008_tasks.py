"""Celery tasks that runs have sent out and whose answers their steps wait for."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ID = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")
KEY = sa.String(512).with_variant(sa.String(512, collation="C"), "postgresql").with_variant(sa.String(490), "mariadb")


def upgrade() -> None:
    """Add the table; older code goes on beside it."""
    op.create_table(
        "flows_tasks",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("queue", sa.String(512), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=False),
        sa.Column("sends", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("flows_tasks_of_run", "flows_tasks", ["run_id", "key"], unique=True)
    op.create_index("flows_tasks_by_queue", "flows_tasks", ["queue", "sent_at"])
    due = sa.text("next_at IS NOT NULL AND sends >= 0")
    op.create_index("flows_tasks_due", "flows_tasks", ["next_at"], postgresql_where=due, sqlite_where=due)


def downgrade() -> None:
    """Drop it."""
    op.drop_table("flows_tasks")
