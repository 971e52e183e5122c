"""The core: events, runs, steps, waits, flows, crons, workers and their leader."""

import sqlalchemy as sa
from alembic import op

from celeryflows.ids import new_id

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")
KEY = sa.String(512).with_variant(sa.String(512, collation="C"), "postgresql").with_variant(sa.String(490), "mariadb")
LONG = sa.Text()
TABLES = (
    "flows_crons",
    "flows_events",
    "flows_flows",
    "flows_leader",
    "flows_meta",
    "flows_once",
    "flows_releases",
    "flows_runs",
    "flows_shapes",
    "flows_steps",
    "flows_waits",
    "flows_workers",
)


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, postgresql_where=condition, sqlite_where=condition)


def upgrade() -> None:
    """Create the tables, and give the store its identity."""
    op.create_table(
        "flows_crons",
        sa.Column("flow", ID, nullable=False),
        sa.Column("trigger_no", sa.Integer(), nullable=False),
        sa.Column("def_hash", sa.String(length=64), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("flow", "trigger_no"),
    )
    _partial_index("flows_crons_due", "flows_crons", ["next_at"], "next_at IS NOT NULL")
    op.create_table(
        "flows_events",
        sa.Column("id", ID, nullable=False),
        sa.Column("ext_id", ID, nullable=True),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("data", LONG, nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.Column("v", sa.String(length=256), nullable=True),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.Column("arrived_at", sa.BigInteger(), nullable=True),
        sa.Column("piece", ID, nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("flows_events_by_name", "flows_events", ["name", "arrived_at"], unique=False)
    _partial_index("flows_events_unrouted", "flows_events", ["stored_at"], "arrived_at IS NULL OR piece IS NOT NULL")
    op.create_table(
        "flows_flows",
        sa.Column("name", ID, nullable=False),
        sa.Column("app", ID, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("definition", LONG, nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "flows_leader",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "flows_meta",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=256), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "flows_once",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("flows_once_expire", "flows_once", ["expires_at"], unique=False)
    op.create_table(
        "flows_releases",
        sa.Column("app", ID, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("app", "hash"),
    )
    op.create_table(
        "flows_runs",
        sa.Column("id", ID, nullable=False),
        sa.Column("flow", ID, nullable=False),
        sa.Column("version", sa.String(length=256), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("event_id", ID, nullable=False),
        sa.Column("turn", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("worker", sa.String(length=64), nullable=True),
        sa.Column("claim_tok", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("sends", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("wake_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("lost", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lost_at", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("output", LONG, nullable=True),
        sa.Column("error", LONG, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index("flows_runs_by_event", "flows_runs", ["event_id"], unique=False)
    op.create_index("flows_runs_by_flow", "flows_runs", ["flow", "id"], unique=False)
    _partial_index(
        "flows_runs_by_status",
        "flows_runs",
        ["status", "id"],
        "status NOT IN ('queued', 'running', 'completed')",
    )
    _partial_index("flows_runs_expire", "flows_runs", ["expires_at"], "expires_at IS NOT NULL")
    _partial_index("flows_runs_running", "flows_runs", ["worker"], "status = 'running'")
    _partial_index("flows_runs_sent", "flows_runs", ["sent_at"], "status = 'queued'")
    _partial_index("flows_runs_wake", "flows_runs", ["wake_at"], "wake_at IS NOT NULL")
    op.create_table(
        "flows_shapes",
        sa.Column("name", sa.String(length=512).with_variant(sa.String(256), "mariadb"), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.PrimaryKeyConstraint("name", "path"),
    )
    op.create_table(
        "flows_steps",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("value", LONG, nullable=True),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("took", sa.BigInteger(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "key"),
    )
    op.create_table(
        "flows_waits",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("hash", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("if_exp", sa.Text(), nullable=True),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.Column("armed_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("event_id", ID, nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("flows_waits_of_run", "flows_waits", ["run_id", "key"], unique=True)
    _partial_index("flows_waits_open", "flows_waits", ["name", "hash"], "state = 'open'")
    op.create_table(
        "flows_workers",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("app", ID, nullable=False),
        sa.Column("release", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=256), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("beat_at", sa.BigInteger(), nullable=False),
        sa.Column("consumer_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("flows_workers_beat", "flows_workers", ["beat_at"], unique=False)
    meta = sa.table("flows_meta", sa.column("key", sa.String), sa.column("value", sa.String))
    op.bulk_insert(meta, [{"key": "identity", "value": new_id()}])


def downgrade() -> None:
    """Drop the tables."""
    for table in reversed(TABLES):
        op.drop_table(table)
