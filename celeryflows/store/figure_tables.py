"""The tables behind the pages: attempts that failed, and figures by the time at which runs were made."""

from collections.abc import Iterable

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, text

from celeryflows.store.columns import GATE, ID, KEY, long, metadata, partial_index

# Attempts after which another came: the last one stands in its step. `key` is '' for the body of the run.
attempts = Table(
    "flows_attempts",
    metadata,
    Column("run_id", ID, primary_key=True),
    Column("key", KEY, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    long("value"),
    Column("ended_at", BigInteger, nullable=False),
    Column("took", BigInteger),
)

# How long runs took, in classes that double from 10 ms on; the last one is open.
BOUNDS = tuple(10_000 << i for i in range(27))
CLASSES = tuple(f"d{i}" for i in range(len(BOUNDS) + 1))
COUNTS = ("made", "started", "unfinished", "completed", "failed", "cancelled", "skipped")
# Events stored, of all flows together; steps, and failed attempts after which another came, of the runs made; runs that
# were skipped, by what skipped them.
LATER = ("events", "steps", "retries", "rate_limited", "singletons", "duplicates", "paused")
# Microseconds: from made to started, and from started to the end of those that completed or failed, together.
LENGTHS = ("waited", "took")


def counts(names: Iterable[str], kind: type[Integer] = Integer) -> list[Column[int]]:
    """Columns that begin at nothing."""
    return [Column(name, kind, nullable=False, server_default=text("0")) for name in names]


# A bucket of time with a row for each flow that had runs made in it; flow '' is all of them, there even without any.
# `next_at`: when the leader counts it anew, for some of its runs were open.
figures = Table(
    "flows_figures",
    metadata,
    Column("flow", ID, primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    *counts(COUNTS),
    *counts(("waited",), BigInteger),
    *counts(CLASSES),
    Column("next_at", BigInteger),
    *counts(LATER),
    *counts(("took",), BigInteger),
)
Index("flows_figures_at", figures.c.at)
partial_index("flows_figures_due", [figures.c.next_at], "next_at IS NOT NULL")

# What the figures ever came to, and what is counted where it happens: it only grows, whatever is forgotten.
totals = Table(
    "flows_totals",
    metadata,
    Column("flow", ID, primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("n", BigInteger, nullable=False),
)

# Who waited at a moment, counted once a minute; flow '' is all of them.
backlogs = Table(
    "flows_backlogs",
    metadata,
    Column("flow", ID, primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("queued", Integer, nullable=False),
    Column("running", Integer, nullable=False),
    Column("oldest", BigInteger),
)
Index("flows_backlogs_at", backlogs.c.at)

# A limit that was in use at a moment, once a minute, all values of its key together. `gates`: how many of them somebody
# held or waited for; `fullest`: the most that one of them let in at once, of the `capacity` that each has.
limit_uses = Table(
    "flows_limit_uses",
    metadata,
    Column("limit_id", GATE, primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("used", Integer, nullable=False),
    Column("waiting", Integer, nullable=False),
    Column("gates", Integer, nullable=False),
    Column("fullest", Integer, nullable=False),
    Column("capacity", Integer),
)
Index("flows_limit_uses_at", limit_uses.c.at)
