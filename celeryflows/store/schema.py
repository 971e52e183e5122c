"""The tables. Lock order, followed by everything that locks; a step may be skipped, never reversed:

a replay's row, or a call's, before all . 0 advisory locks of event names, sorted . 1 advisory stripes (name, path,
value), sorted . 2 once . 3 meters . 4 debounces, then batches . 5 singletons . 6 gates by level and key . 7 groups .
8 runs by id, then branches by run and path . 9 children of these: waits, slots, queue, steps . the advisory lock of
telling, by cancels . totals by flow and name. Inside a class all rows of a transaction are locked in sorted order.
Times are microseconds."""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, text

from celeryflows.store import figure_tables as figure_tables
from celeryflows.store import limit_tables as limit_tables
from celeryflows.store import task_table as task_table
from celeryflows.store.columns import ALONG, ALONG_EVENTS, ALONG_WAITS, ID, KEY, NAME, limited, long, partial_index
from celeryflows.store.columns import metadata as metadata

# What came back and has not asked at its gates; what has ended and holds a slot or a place in a line yet.
AT_DOOR = "held_at = '0'"
LEAVING = "ended_at IS NOT NULL AND (n1 IS NOT NULL OR n2 IS NOT NULL OR held_at IS NOT NULL)"

# As in migrations/versions, the newest last.
VERSIONS = tuple(f"{number:04}" for number in range(1, 17))
# Code that knows this version works on the newest too. A migration that takes something away raises it to the version
# of the first code that does without.
SINCE = "0013"

meta = Table(
    "flows_meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", String(256), nullable=False),
)

events = Table(
    "flows_events",
    metadata,
    Column("id", ID, primary_key=True),
    Column("ext_id", ID),
    Column("name", NAME, nullable=False),
    long("data", nullable=False),
    Column("ts", BigInteger, nullable=False),
    Column("v", String(256)),
    Column("stored_at", BigInteger, nullable=False),
    Column("arrived_at", BigInteger),
    Column("piece", ID),
    Column("problem", Text),
)
Index("flows_events_by_name", events.c.name, events.c.arrived_at)
partial_index(
    "flows_events_unrouted", [events.c.stored_at], f"(arrived_at IS NULL OR piece IS NOT NULL) AND {ALONG_EVENTS}"
)

runs = Table(
    "flows_runs",
    metadata,
    Column("id", ID, primary_key=True),
    Column("flow", ID, nullable=False),
    Column("version", String(256)),
    Column("status", String(16), nullable=False),
    Column("event_id", ID, nullable=False),
    Column("turn", Integer, nullable=False, server_default=text("0")),
    Column("worker", String(64)),
    Column("claim_tok", BigInteger),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("sent_at", BigInteger),
    Column("sends", Integer, nullable=False, server_default=text("0")),
    Column("message", Text),
    Column("wake_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("lost", Integer, nullable=False, server_default=text("0")),
    Column("lost_at", Integer),
    Column("reason", Text),
    long("output"),
    long("error"),
    Column("parent", ID),
    Column("parent_key", KEY),
    Column("continued_from", ID),
    Column("continued_as", ID),
    Column("origin", ID),
    Column("owes", String(64)),
    Column("finish_by", BigInteger),
    *limited(),
    # The number of its events, of a run that a batch made.
    Column("batch", Integer),
    Column("lost_since", BigInteger),
    # That of its event, for lists; null where the event may change yet, and of runs that older code has written.
    Column("event_name", NAME),
    # The message that carries the turn where it is not the run's own.
    Column("carrier", String(64)),
    postgresql_with={"fillfactor": "80"},
)


partial_index("flows_runs_running", [runs.c.worker], f"status = 'running' AND {ALONG}")
# What a limit holds stands at its end, for it was not sent.
partial_index("flows_runs_sent", [runs.c.sent_at], f"status = 'queued' AND {ALONG}")
partial_index("flows_runs_wake", [runs.c.wake_at], f"wake_at IS NOT NULL AND {ALONG}")
partial_index("flows_runs_expire", [runs.c.expires_at], f"expires_at IS NOT NULL AND {ALONG}")
Index("flows_runs_by_flow", runs.c.flow, runs.c.id)
# What most runs pass through stands in no index of its own: each costs every change of a run's status an entry.
RARE = "status NOT IN ('queued', 'running', 'completed')"
partial_index("flows_runs_by_status", [runs.c.status, runs.c.id], RARE)
# Those of one flow, which may fail far less often than others.
BADLY = "status IN ('failed', 'cancelled', 'skipped')"
partial_index("flows_runs_by_end", [runs.c.flow, runs.c.status, runs.c.id], BADLY)
Index("flows_runs_by_event", runs.c.event_id)
# Retention finds what is old by ids that begin with the time, and by their end the runs whose ids tell none.
partial_index(
    "flows_runs_odd", [runs.c.ended_at, runs.c.id], "ended_at IS NOT NULL AND (length(id) <> 26 OR id >= '02')"
)
partial_index("flows_runs_finish", [runs.c.finish_by], f"finish_by IS NOT NULL AND {ALONG}")
partial_index("flows_runs_owing", [runs.c.id], "owes IS NOT NULL")
partial_index("flows_runs_of_parent", [runs.c.parent], "parent IS NOT NULL")
partial_index("flows_runs_at_door", [runs.c.id], AT_DOOR)
partial_index("flows_runs_leaving", [runs.c.id], LEAVING)

# A branch of a group is a unit like a run: claimed, fenced, queued and woken by its own row.
branches = Table(
    "flows_branches",
    metadata,
    Column("run_id", ID, primary_key=True),
    Column("path", KEY, primary_key=True),
    Column("group_path", KEY, nullable=False),
    Column("parent_path", KEY, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("turn", Integer, nullable=False, server_default=text("0")),
    Column("worker", String(64)),
    # The unit of the run whose message carries the turn: itself, or who took it on in passing.
    Column("carrier", KEY, nullable=False, server_default=text("''")),
    Column("claim_tok", BigInteger),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("sent_at", BigInteger),
    Column("sends", Integer, nullable=False, server_default=text("0")),
    Column("wake_at", BigInteger),
    Column("lost", Integer, nullable=False, server_default=text("0")),
    Column("lost_at", Integer),
    long("value"),
    long("error"),
    *limited(),
    Column("lost_since", BigInteger),
    postgresql_with={"fillfactor": "80"},
)
partial_index("flows_branches_running", [branches.c.worker], f"status = 'running' AND {ALONG}")
partial_index("flows_branches_sent", [branches.c.sent_at], f"status = 'queued' AND {ALONG}")
partial_index("flows_branches_wake", [branches.c.wake_at], f"wake_at IS NOT NULL AND {ALONG}")
partial_index("flows_branches_at_door", [branches.c.run_id], AT_DOOR)
partial_index("flows_branches_leaving", [branches.c.run_id], LEAVING)

groups = Table(
    "flows_groups",
    metadata,
    Column("run_id", ID, primary_key=True),
    Column("path", KEY, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("remaining", Integer, nullable=False),
    Column("winner", Integer),
    Column("began", BigInteger, nullable=False),
)

steps = Table(
    "flows_steps",
    metadata,
    Column("run_id", ID, primary_key=True),
    Column("key", KEY, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    long("value"),
    Column("turn", Integer, nullable=False),
    Column("began", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("took", BigInteger),
    Column("due_at", BigInteger),
    long("input"),
    Column("branch", KEY, nullable=False, server_default=text("''")),
    # What it was called with, where its flow records that.
    long("given"),
)

waits = Table(
    "flows_waits",
    metadata,
    Column("id", ID, primary_key=True),
    Column("run_id", ID, nullable=False),
    Column("key", KEY, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", NAME, nullable=False),
    Column("path", String(512), nullable=False),
    Column("hash", BigInteger, nullable=False),
    Column("value", Text, nullable=False),
    Column("if_exp", Text),
    Column("began", BigInteger, nullable=False),
    Column("armed_at", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("event_id", ID),
    Column("due_at", BigInteger),
    Column("problem", Text),
    Column("branch", KEY, nullable=False, server_default=text("''")),
)
partial_index("flows_waits_open", [waits.c.name, waits.c.hash], f"state = 'open' AND {ALONG_WAITS}")
# The events that answered: they stay as long as their runs.
partial_index("flows_waits_event", [waits.c.event_id], "event_id IS NOT NULL")
Index("flows_waits_of_run", waits.c.run_id, waits.c.key, unique=True)

shapes = Table(
    "flows_shapes",
    metadata,
    Column("name", NAME.with_variant(String(256), "mariadb"), primary_key=True),
    Column("path", String(512), primary_key=True),
)

once = Table(
    "flows_once",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("run_id", ID, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
Index("flows_once_expire", once.c.expires_at)

releases = Table(
    "flows_releases",
    metadata,
    Column("app", ID, primary_key=True),
    Column("hash", String(64), primary_key=True),
    Column("first_seen", BigInteger, nullable=False),
)

flows = Table(
    "flows_flows",
    metadata,
    Column("name", ID, primary_key=True),
    Column("app", ID, nullable=False),
    Column("hash", String(64), nullable=False),
    long("definition", nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("removed_at", BigInteger),
    Column("paused_at", BigInteger),
)

replays = Table(
    "flows_replays",
    metadata,
    Column("id", ID, primary_key=True),
    Column("flow", ID, nullable=False),
    long("selection", nullable=False),
    Column("pace", BigInteger, nullable=False),
    Column("cursor", ID),
    Column("total", Integer, nullable=False),
    Column("done", Integer, nullable=False, server_default=text("0")),
    Column("next_at", BigInteger),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
)
partial_index("flows_replays_due", [replays.c.next_at], "next_at IS NOT NULL")

# A call that was made in a caller's own transaction, with its event; it goes when it is started.
calls = Table(
    "flows_calls",
    metadata,
    Column("run_id", ID, primary_key=True),
    Column("flow", ID, nullable=False),
    Column("version", String(256)),
    Column("wake_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("message", Text),
    Column("id", ID, nullable=False),
    Column("ext_id", ID),
    Column("name", NAME, nullable=False),
    long("data", nullable=False),
    Column("ts", BigInteger, nullable=False),
    Column("v", String(256)),
    Column("stored_at", BigInteger, nullable=False),
)
Index("flows_calls_stored", calls.c.stored_at)

crons = Table(
    "flows_crons",
    metadata,
    Column("flow", ID, primary_key=True),
    Column("trigger_no", Integer, primary_key=True),
    Column("def_hash", String(64), nullable=False),
    Column("definition", Text, nullable=False),
    Column("next_at", BigInteger),
    # The last time at which nobody was there, and when that was seen.
    Column("missed_due", BigInteger),
    Column("missed_seen", BigInteger),
)
partial_index("flows_crons_due", [crons.c.next_at], "next_at IS NOT NULL")

workers = Table(
    "flows_workers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("app", ID, nullable=False),
    Column("release", String(64), nullable=False),
    Column("host", String(256), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pool", String(64), nullable=False),
    Column("queues", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("beat_at", BigInteger, nullable=False),
    Column("consumer_at", BigInteger),
    Column("schema_version", String(32)),
)
Index("flows_workers_beat", workers.c.beat_at)

leader = Table(
    "flows_leader",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("holder", String(64), nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
)

# Who may come in by HTTP: a key's SHA-256, never the key.
keys = Table(
    "flows_keys",
    metadata,
    Column("id", ID, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(256), nullable=False),
    Column("role", String(16)),
    Column("hash", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger),
)
Index("flows_keys_by_hash", keys.c.hash, unique=True)

# What people did, the id telling when; `outcome` is what came of it.
audit = Table(
    "flows_audit",
    metadata,
    Column("id", ID, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("who", String(256), nullable=False),
    Column("via", String(16), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(512), nullable=False),
    Column("outcome", String(256), nullable=False),
)

counts = Table(
    "flows_counts",
    metadata,
    Column("name", String(256), primary_key=True),
    Column("n", BigInteger, nullable=False),
)
