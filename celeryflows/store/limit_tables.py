"""The tables of limits: meters, windows, and the gates with their slots and lines. Lock order: see schema."""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from celeryflows.store.columns import GATE, ID, KEY, metadata, partial_index

# A limit with its key's value: `tat` is when the next start is due by its rate (GCRA), `next_at` when the leader looks
# at the line that waits for it.
meters = Table(
    "flows_meters",
    metadata,
    Column("key", GATE, primary_key=True),
    Column("flow", ID, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("value", Text),
    Column("tat", BigInteger, nullable=False),
    Column("next_at", BigInteger),
    postgresql_with={"fillfactor": "60"},
)
partial_index("flows_meters_due", [meters.c.next_at], "next_at IS NOT NULL")

debounces = Table(
    "flows_debounces",
    metadata,
    Column("key", GATE, primary_key=True),
    Column("run_id", ID, nullable=False),
    Column("ts", BigInteger, nullable=False),
    Column("fire_at", BigInteger, nullable=False),
    Column("deadline", BigInteger),
)
Index("flows_debounces_fire", debounces.c.fire_at)

batches = Table(
    "flows_batches",
    metadata,
    Column("key", GATE, primary_key=True),
    Column("run_id", ID, nullable=False),
    Column("n", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    postgresql_with={"fillfactor": "60"},
)
Index("flows_batches_deadline", batches.c.deadline)

# The events of a batch's run in the order in which they came, and who invoked it by each. -1: a newer one of its
# debounce took its place, and the run goes without it.
batch_events = Table(
    "flows_batch_events",
    metadata,
    Column("run_id", ID, primary_key=True),
    Column("event_id", ID, primary_key=True),
    Column("no", Integer, nullable=False),
    Column("parent", ID),
    Column("parent_key", KEY),
)
Index("flows_batch_events_event", batch_events.c.event_id)

# Held as long as the run is open, or one that goes on for it: no row has to go when a run ends.
singletons = Table(
    "flows_singletons",
    metadata,
    Column("key", GATE, primary_key=True),
    Column("run_id", ID, nullable=False),
)
Index("flows_singletons_of_run", singletons.c.run_id)

# A concurrency limit with its key's value: what takes part in it enters here. `fill_at`: its number was raised.
gates = Table(
    "flows_gates",
    metadata,
    Column("key", GATE, primary_key=True),
    Column("level", Integer, nullable=False),
    Column("limit_id", GATE, nullable=False),
    Column("flow", ID, nullable=False),
    Column("value", Text),
    Column("touched_at", BigInteger, nullable=False),
    Column("fill_at", BigInteger),
)
Index("flows_gates_of_limit", gates.c.limit_id)
partial_index("flows_gates_to_fill", [gates.c.fill_at], "fill_at IS NOT NULL")

slots = Table(
    "flows_slots",
    metadata,
    Column("gate", GATE, primary_key=True),
    Column("no", Integer, primary_key=True, autoincrement=False),
    Column("run_id", ID),
    Column("branch", KEY),
    postgresql_with={"fillfactor": "40"},
)

queue = Table(
    "flows_queue",
    metadata,
    Column("gate", GATE, primary_key=True),
    Column("rank", BigInteger, primary_key=True, autoincrement=False),
    Column("run_id", ID, primary_key=True),
    Column("branch", KEY, primary_key=True),
    Column("joined_at", BigInteger, nullable=False),
)
