"""Figures of runs by the time at which they were made, and of who waits: counted by the leader, read by the pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from celeryflows.store.columns import ALONG
from celeryflows.store.executor import Verbs
from celeryflows.store.figure_tables import BOUNDS, CLASSES, COUNTS, LATER
from celeryflows.store.retention import first_id

ALL = ""
_CLASS = " ".join(f"WHEN ended_at - started_at < {bound} THEN {i}" for i, bound in enumerate(BOUNDS))
# Runs are found by their ids, which begin with the time: no index has to be kept for this while they run.
_COUNT = f"""
SELECT flow, status, CASE WHEN status NOT IN ('completed', 'failed') OR started_at IS NULL THEN NULL {_CLASS}
  ELSE {len(BOUNDS)} END AS class, CASE WHEN status = 'skipped' THEN substr(reason, 1, 9) END AS why, count(*),
  count(started_at), COALESCE(sum(started_at - created_at), 0), COALESCE(sum(ended_at - started_at), 0)
FROM flows_runs WHERE id >= :first AND id < :last GROUP BY 1, 2, 3, 4
"""
# So many of a table that belongs to runs, by their flow.
_OF_RUNS = """
SELECT r.flow, count(*) FROM flows_{table} o JOIN flows_runs r ON r.id = o.run_id
WHERE o.run_id >= :first AND o.run_id < :last AND r.id >= :first AND r.id < :last GROUP BY r.flow
"""
NAMES = (*COUNTS, "waited", *CLASSES, *LATER, "took")
COLUMNS = ("flow", "at", *NAMES, "next_at")
_PUT = (
    f"INSERT INTO flows_figures ({', '.join(COLUMNS)}) VALUES ({', '.join(f':{name}' for name in COLUMNS)}) "
    f"ON CONFLICT (flow, at) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in COLUMNS[2:])}"
)
# The backlog is counted up to here: above, its exact number tells nobody more.
MOST_WAITING = 100_000
_BACKLOG = f"""
SELECT flow, sum(queued), sum(running), min(since) FROM (
  SELECT flow, queued, running, since FROM (
    SELECT flow, 1 AS queued, 0 AS running, created_at AS since FROM flows_runs WHERE status = 'queued' AND {ALONG}
    LIMIT {MOST_WAITING}) q
  UNION ALL SELECT flow, 0, 1, NULL FROM (
    SELECT flow FROM flows_runs WHERE status = 'running' AND {ALONG} LIMIT {MOST_WAITING}) r
) waiting GROUP BY flow
"""


@dataclass(frozen=True, slots=True)
class Counted:
    """So many runs of a flow in one state; `class_` of how long they took, None when that is not counted; `why` begins
    the reason of those that were skipped."""

    flow: str
    status: str
    class_: int | None
    why: str | None
    runs: int
    started: int
    waited: int
    took: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """Who waits and works now; `flow` '' is all. `oldest`: how long the oldest has waited, in microseconds."""

    flow: str
    queued: int
    running: int
    oldest: int | None


class Figures(Verbs):
    """The verbs of figures."""

    def open_buckets(self, moments: Sequence[int], next_at: int) -> None:
        """Let these buckets be counted from `next_at` on; those that are known stay as they are."""
        for at in moments:
            self._execute(
                "INSERT INTO flows_figures (flow, at, next_at) VALUES ('', :at, :next) "
                "ON CONFLICT (flow, at) DO NOTHING",
                at=at,
                next=next_at,
            )

    def newest(self) -> int | None:
        """The newest bucket."""
        rows = self._execute("SELECT max(at) FROM flows_figures WHERE flow = ''")
        newest: int | None = rows[0][0]
        return newest

    def due(self, limit: int) -> list[int]:
        """Buckets that are to be counted now."""
        rows = self._execute(
            "SELECT at FROM flows_figures WHERE next_at <= {by_now} ORDER BY next_at, at DESC LIMIT :most", most=limit
        )
        return [row[0] for row in rows]

    def count(self, after: int, before: int) -> list[Counted]:
        """The runs made from `after` on and before `before`, by flow, state and how long they took."""
        rows = self._execute(_COUNT, first=first_id(after), last=first_id(before))
        return [Counted(*(*row[:6], int(row[6]), int(row[7]))) for row in rows]

    def count_events(self, after: int, before: int) -> int:
        """The events stored from `after` on and before `before`, but for those of crons and calls, which are runs."""
        rows = self._execute(
            "SELECT count(*) FROM flows_events WHERE id >= :first AND id < :last",
            first=first_id(after),
            last=first_id(before),
        )
        return int(rows[0][0])

    def count_work(self, after: int, before: int) -> dict[str, tuple[int, int]]:
        """By flow: steps, and attempts after which another came, of the runs made in this time."""
        span = {"first": first_id(after), "last": first_id(before)}
        found = (self._execute(_OF_RUNS.format(table=table), **span) for table in ("steps", "attempts"))
        steps, retries = ({str(row[0]): int(row[1]) for row in rows} for rows in found)
        return {flow: (steps.get(flow, 0), retries.get(flow, 0)) for flow in steps.keys() | retries.keys()}

    def of_bucket(self, at: int) -> dict[str, dict[str, int]]:
        """What a bucket holds, by flow; held, so that one leader counts it at a time."""
        names = ("flow", *NAMES)
        rows = self._execute(
            f"SELECT {', '.join(names)} FROM flows_figures WHERE at = :at ORDER BY flow {{lock}}", at=at
        )
        return {row[0]: dict(zip(names[1:], row[1:], strict=True)) for row in rows}

    def put(self, at: int, by_flow: Mapping[str, Mapping[str, int]], next_at: int | None) -> None:
        """Write a bucket; the row of all flows says when it is counted anew."""
        for flow, counts in sorted(by_flow.items()):
            empty = dict.fromkeys(COLUMNS, 0)
            row = {**empty, **counts, "flow": flow, "at": at, "next_at": next_at if flow == ALL else None}
            self._execute(_PUT, **row)

    def paces(self, lately: int, worth: int) -> dict[str, int]:
        """By flow: microseconds that a run has taken of those made `lately`, where at least `worth` have ended."""
        rows = self._execute(
            "SELECT flow, sum(took), sum(completed + failed) FROM flows_figures "
            "WHERE at >= {by_now} - :lately AND flow <> '' GROUP BY flow HAVING sum(completed + failed) >= :worth",
            lately=lately,
            worth=worth,
        )
        return {flow: int(took) // int(ended) for flow, took, ended in rows}

    def backlog(self) -> list[Backlog]:
        """Who waits and works now, by flow."""
        rows = self._execute(_BACKLOG)
        return [Backlog(row[0], int(row[1]), int(row[2]), row[3]) for row in rows]

    def put_backlog(self, at: int, found: Sequence[Backlog]) -> None:
        """Keep who waits and works at a moment."""
        for one in found:
            self._execute(
                "INSERT INTO flows_backlogs (flow, at, queued, running, oldest) "
                "VALUES (:flow, :at, :queued, :running, :oldest) ON CONFLICT (flow, at) DO NOTHING",
                flow=one.flow,
                at=at,
                queued=one.queued,
                running=one.running,
                oldest=one.oldest,
            )

    def forget(self, before: int, waiting_before: int) -> None:
        """Delete figures and backlogs of before these moments."""
        self._execute("DELETE FROM flows_figures WHERE at < :before", before=before)
        self._execute("DELETE FROM flows_backlogs WHERE at < :before", before=waiting_before)
