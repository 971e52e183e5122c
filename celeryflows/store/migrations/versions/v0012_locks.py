"""Rows that stand for locks of names, on MariaDB, which has none that are shared."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make their table; nothing on other databases."""
    if op.get_bind().dialect.name == "mariadb":
        op.create_table(
            "flows_locks",
            sa.Column("space", sa.Integer(), autoincrement=False, nullable=False),
            sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False),
            sa.PrimaryKeyConstraint("space", "n"),
        )


def downgrade() -> None:
    """Drop it."""
    if op.get_bind().dialect.name == "mariadb":
        op.drop_table("flows_locks")
