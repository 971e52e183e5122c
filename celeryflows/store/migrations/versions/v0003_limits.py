"""The limits: meters, debounces, batches, singletons, gates with their slots and lines, and what runs have of them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")
KEY = sa.String(512).with_variant(sa.String(512, collation="C"), "postgresql").with_variant(sa.String(490), "mariadb")
GATE = (
    sa.String(64)
    .with_variant(sa.String(64, collation="C"), "postgresql")
    .with_variant(sa.String(64, collation="ascii_nopad_bin"), "mariadb")
)

UNITS = (("runs", "id"), ("branches", "run_id"))
AT_DOOR = "held_at = '0'"
LEAVING = "ended_at IS NOT NULL AND (n1 IS NOT NULL OR n2 IS NOT NULL OR held_at IS NOT NULL)"


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, postgresql_where=condition, sqlite_where=condition)


def _more_columns() -> list[tuple[str, sa.Column[object]]]:
    limited = (
        ("g1", GATE),
        ("g2", GATE),
        ("n1", sa.Integer()),
        ("n2", sa.Integer()),
        ("held_at", GATE),
        ("rank", sa.BigInteger()),
        ("priority", sa.BigInteger()),
    )
    more = [(table, name, kind) for table in ("flows_runs", "flows_branches") for name, kind in limited]
    more.append(("flows_runs", "batch", sa.Integer()))
    return [(table, sa.Column(name, kind, nullable=True)) for table, name, kind in more]


def upgrade() -> None:
    """Add them; older code goes on beside it."""
    for table, column in _more_columns():
        op.add_column(table, column)
    for unit, key in UNITS:
        _partial_index(f"flows_{unit}_at_door", f"flows_{unit}", [key], AT_DOOR)
        _partial_index(f"flows_{unit}_leaving", f"flows_{unit}", [key], LEAVING)
    _create_windows()
    _create_lines()


def _create_windows() -> None:
    op.create_table(
        "flows_meters",
        sa.Column("key", GATE, nullable=False),
        sa.Column("flow", ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("tat", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key"),
        postgresql_with={"fillfactor": "60"},
    )
    _partial_index("flows_meters_due", "flows_meters", ["next_at"], "next_at IS NOT NULL")
    op.create_table(
        "flows_debounces",
        sa.Column("key", GATE, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.Column("fire_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("flows_debounces_fire", "flows_debounces", ["fire_at"])
    op.create_table(
        "flows_batches",
        sa.Column("key", GATE, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        postgresql_with={"fillfactor": "60"},
    )
    op.create_index("flows_batches_deadline", "flows_batches", ["deadline"])
    op.create_table(
        "flows_batch_events",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("event_id", ID, nullable=False),
        sa.Column("no", sa.Integer(), nullable=False),
        sa.Column("parent", ID, nullable=True),
        sa.Column("parent_key", KEY, nullable=True),
        sa.PrimaryKeyConstraint("run_id", "event_id"),
    )
    op.create_index("flows_batch_events_event", "flows_batch_events", ["event_id"])
    op.create_table(
        "flows_singletons",
        sa.Column("key", GATE, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("flows_singletons_of_run", "flows_singletons", ["run_id"])


def _create_lines() -> None:
    op.create_table(
        "flows_gates",
        sa.Column("key", GATE, nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("limit_id", GATE, nullable=False),
        sa.Column("flow", ID, nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.Column("fill_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("flows_gates_of_limit", "flows_gates", ["limit_id"])
    _partial_index("flows_gates_to_fill", "flows_gates", ["fill_at"], "fill_at IS NOT NULL")
    op.create_table(
        "flows_slots",
        sa.Column("gate", GATE, nullable=False),
        sa.Column("no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run_id", ID, nullable=True),
        sa.Column("branch", KEY, nullable=True),
        sa.PrimaryKeyConstraint("gate", "no"),
        postgresql_with={"fillfactor": "40"},
    )
    op.create_table(
        "flows_queue",
        sa.Column("gate", GATE, nullable=False),
        sa.Column("rank", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("branch", KEY, nullable=False),
        sa.Column("joined_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("gate", "rank", "run_id", "branch"),
    )


def downgrade() -> None:
    """Drop them."""
    for name in ("queue", "slots", "gates", "singletons", "batch_events", "batches", "debounces", "meters"):
        op.drop_table(f"flows_{name}")
    for unit, _ in UNITS:
        op.drop_index(f"flows_{unit}_at_door", table_name=f"flows_{unit}")
        op.drop_index(f"flows_{unit}_leaving", table_name=f"flows_{unit}")
    for table in ("flows_branches", "flows_runs"):
        with op.batch_alter_table(table) as batch:
            for owner, column in reversed(_more_columns()):
                if owner == table:
                    batch.drop_column(column.name)
