"""How new runs are written: with what each has, bounds and limits."""

from celeryflows.model.runs import NewRun, Status

INSERT = """
INSERT INTO flows_runs (id, flow, version, status, event_id, event_name, message, wake_at, expires_at, reason,
  created_at, sent_at, ended_at)
VALUES (:id, :flow, :version, :status, :event_id, :event_name, :message, :wake_at, :expires_at, :reason, {now},
  CASE WHEN CAST(:status AS varchar) = 'queued' THEN {now} END,
  CASE WHEN CAST(:status AS varchar) = 'skipped' THEN {now} END)
ON CONFLICT (id) DO NOTHING
"""

# The store's own clock counts: what is to start within so long says so.
_START_BY = """CASE WHEN COALESCE(CAST(:wake_at AS bigint), {now}) + CAST(:start_within AS bigint)
  < COALESCE(CAST(:expires_at AS bigint), 9223372036854775807)
  THEN COALESCE(CAST(:wake_at AS bigint), {now}) + CAST(:start_within AS bigint)
  ELSE CAST(:expires_at AS bigint) END"""
INSERT_BOUNDED = INSERT.replace(":wake_at, :expires_at", f":wake_at, {_START_BY}")

# A unit that is held has no message under way.
_SENT = "CASE WHEN CAST(:status AS varchar) = 'queued' THEN {now} END"
_FIELDS = ("id", "flow", "version", "event_id", "message", "wake_at", "expires_at", "reason", "start_within")
_PLACE = ("g1", "g2", "n1", "n2", "held_at", "rank", "priority", "batch")


def limited(insert: str) -> str:
    """The statement for runs that limits concern."""
    head, values = insert.split("VALUES", 1)
    head = head.rstrip().removesuffix(")") + f", {', '.join(_PLACE)})"
    sent = "CASE WHEN CAST(:status AS varchar) = 'queued' AND CAST(:held_at AS varchar) IS NULL THEN {now} END"
    rows, conflict = values.replace(_SENT, sent).split("ON CONFLICT", 1)
    own = ", ".join(f":{name}" for name in _PLACE)
    return f"{head}\nVALUES{rows.rstrip().removesuffix(')')}, {own})\nON CONFLICT{conflict}"


NUMBERS = frozenset({"wake_at", "expires_at", "start_within", "n1", "n2", "rank", "priority", "batch"})
INSERT_LIMITED, INSERT_LIMITED_BOUNDED = limited(INSERT), limited(INSERT_BOUNDED)


def run_fields(run: NewRun) -> dict[str, object]:
    """The parameters that write it."""
    row: dict[str, object] = {name: getattr(run, name) for name in _FIELDS}
    row["status"] = str(run.status)
    # A debounce gives a run another event as long as it is scheduled.
    row["event_name"] = None if run.status is Status.SCHEDULED else run.event_name
    if run.place is not None:
        row |= {name: getattr(run.place, name) for name in _PLACE}
    return row


def insert_of(run: NewRun) -> str:
    """The statement that writes it: what a run has not costs nothing."""
    if run.place is None:
        return INSERT if run.start_within is None else INSERT_BOUNDED
    return INSERT_LIMITED if run.start_within is None else INSERT_LIMITED_BOUNDED
