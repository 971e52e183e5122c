"""The step tools: branches and groups, linked runs, debts, deadlines, paused flows and replays."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")
KEY = sa.String(512).with_variant(sa.String(512, collation="C"), "postgresql").with_variant(sa.String(490), "mariadb")
LONG = sa.Text()


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, postgresql_where=condition, sqlite_where=condition)


def _more_columns() -> list[tuple[str, sa.Column[object]]]:
    return [
        ("flows_runs", sa.Column("parent", ID, nullable=True)),
        ("flows_runs", sa.Column("parent_key", KEY, nullable=True)),
        ("flows_runs", sa.Column("continued_from", ID, nullable=True)),
        ("flows_runs", sa.Column("continued_as", ID, nullable=True)),
        ("flows_runs", sa.Column("origin", ID, nullable=True)),
        ("flows_runs", sa.Column("owes", sa.String(length=64), nullable=True)),
        ("flows_runs", sa.Column("finish_by", sa.BigInteger(), nullable=True)),
        ("flows_steps", sa.Column("input", LONG, nullable=True)),
        ("flows_steps", sa.Column("branch", KEY, server_default=sa.text("''"), nullable=False)),
        ("flows_waits", sa.Column("branch", KEY, server_default=sa.text("''"), nullable=False)),
        ("flows_flows", sa.Column("paused_at", sa.BigInteger(), nullable=True)),
    ]


def upgrade() -> None:
    """Add them; older code goes on beside it."""
    for table, column in _more_columns():
        op.add_column(table, column)
    odd = "ended_at IS NOT NULL AND (length(id) <> 26 OR id >= '02')"
    _partial_index("flows_runs_odd", "flows_runs", ["ended_at", "id"], odd)
    _partial_index("flows_waits_event", "flows_waits", ["event_id"], "event_id IS NOT NULL")
    _partial_index("flows_runs_finish", "flows_runs", ["finish_by"], "finish_by IS NOT NULL")
    _partial_index("flows_runs_owing", "flows_runs", ["id"], "owes IS NOT NULL")
    _partial_index("flows_runs_of_parent", "flows_runs", ["parent"], "parent IS NOT NULL")
    _create_branches()
    _create_groups_and_replays()


def _create_branches() -> None:
    op.create_table(
        "flows_branches",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("path", KEY, nullable=False),
        sa.Column("group_path", KEY, nullable=False),
        sa.Column("parent_path", KEY, nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("turn", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("worker", sa.String(length=64), nullable=True),
        sa.Column("carrier", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("claim_tok", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("sends", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("wake_at", sa.BigInteger(), nullable=True),
        sa.Column("lost", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lost_at", sa.Integer(), nullable=True),
        sa.Column("value", LONG, nullable=True),
        sa.Column("error", LONG, nullable=True),
        sa.PrimaryKeyConstraint("run_id", "path"),
        postgresql_with={"fillfactor": "80"},
    )
    _partial_index("flows_branches_running", "flows_branches", ["worker"], "status = 'running'")
    _partial_index("flows_branches_sent", "flows_branches", ["sent_at"], "status = 'queued'")
    _partial_index("flows_branches_wake", "flows_branches", ["wake_at"], "wake_at IS NOT NULL")


def _create_groups_and_replays() -> None:
    op.create_table(
        "flows_groups",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("path", KEY, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("remaining", sa.Integer(), nullable=False),
        sa.Column("winner", sa.Integer(), nullable=True),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "path"),
    )
    op.create_table(
        "flows_replays",
        sa.Column("id", ID, nullable=False),
        sa.Column("flow", ID, nullable=False),
        sa.Column("selection", LONG, nullable=False),
        sa.Column("pace", sa.BigInteger(), nullable=False),
        sa.Column("cursor", ID, nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    _partial_index("flows_replays_due", "flows_replays", ["next_at"], "next_at IS NOT NULL")


def downgrade() -> None:
    """Drop them."""
    for table in ("flows_replays", "flows_groups", "flows_branches"):
        op.drop_table(table)
    op.drop_index("flows_waits_event", table_name="flows_waits")
    for index in ("flows_runs_of_parent", "flows_runs_owing", "flows_runs_finish", "flows_runs_odd"):
        op.drop_index(index, table_name="flows_runs")
    for table, column in reversed(_more_columns()):
        with op.batch_alter_table(table) as batch:
            batch.drop_column(column.name)
