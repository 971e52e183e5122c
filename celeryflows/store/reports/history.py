"""Whole runs with their events, steps and waits, a bounded page a read: no snapshot is held for long."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, select

from celeryflows.model.history import plain
from celeryflows.store.database import Store
from celeryflows.store.limit_tables import batch_events
from celeryflows.store.reports.reading import read
from celeryflows.store.schema import branches, events, groups, runs, steps, waits

LOOK = 1_000
# A run's values may have 32 MiB.
WHOLE = 20
RUN = (
    *("id", "flow", "version", "status", "turn", "attempt", "created_at", "started_at", "ended_at", "wake_at"),
    *("reason", "output", "error", "parent", "origin", "continued_from", "continued_as", "event_id", "batch"),
)
STEP = ("key", "kind", "state", "attempts", "value", "turn", "began", "ended_at", "took", "due_at", "input", "branch")
WAIT = ("key", "kind", "name", "path", "value", "if_exp", "state", "began", "armed_at", "due_at", "problem", "event_id")
GROUP = ("path", "kind", "state", "winner", "began")
BRANCH = ("path", "group_path", "idx", "status", "started_at", "ended_at", "value", "error")
EVENT = ("id", "ext_id", "name", "data", "ts", "v", "arrived_at")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which runs: of a flow, made from `after` on and before `before` (microseconds), in one of these states."""

    flow: str | None = None
    after: int | None = None
    before: int | None = None
    statuses: Collection[str] = ()

    def takes(self, status: str, created_at: int) -> bool:
        """True for a run that is chosen."""
        return (
            (not self.statuses or status in self.statuses)
            and (self.after is None or created_at >= self.after)
            and (self.before is None or created_at < self.before)
        )


def whole_runs(store: Store, chosen: Chosen, *, newest_first: bool = False) -> Iterator[dict[str, Any]]:
    """Every chosen run, in the order of ids, as its export has it."""
    cursor: str | None = None
    while True:
        looked = read(store, _look(chosen, cursor, newest_first=newest_first))
        ids = [row[0] for row in looked if chosen.takes(row[1], row[2])]
        for start in range(0, len(ids), WHOLE):
            yield from _records(store, ids[start : start + WHOLE])
        if len(looked) < LOOK:
            return
        cursor = looked[-1][0]


def _look(chosen: Chosen, cursor: str | None, *, newest_first: bool) -> Select[Any]:
    query = select(runs.c.id, runs.c.status, runs.c.created_at).limit(LOOK)
    query = query.order_by(runs.c.id.desc() if newest_first else runs.c.id)
    if chosen.flow is not None:
        query = query.where(runs.c.flow == chosen.flow)
    if cursor is not None:
        query = query.where(runs.c.id < cursor if newest_first else runs.c.id > cursor)
    return query


def _records(store: Store, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    found = {row["id"]: row for row in _rows(store, runs, RUN, runs.c.id.in_(ids))}
    stepped = _by_run(store, steps, STEP, ids, (steps.c.began, steps.c.ended_at, steps.c.key))
    waited = _by_run(store, waits, WAIT, ids, ())
    grouped = _by_run(store, groups, GROUP, ids, (groups.c.began, groups.c.path))
    branched = _by_run(store, branches, BRANCH, ids, (branches.c.group_path, branches.c.idx)) if grouped else {}
    gathered = _gathered(store, [run_id for run_id, row in found.items() if row["batch"] is not None])
    wanted = {row["event_id"] for row in found.values()}
    wanted |= {wait["event_id"] for of_run in waited.values() for wait in of_run if wait["event_id"]}
    known = {row["id"]: row for row in _rows(store, events, EVENT, events.c.id.in_(sorted(wanted)))}
    for run_id in ids:
        # Retention may have taken it meanwhile.
        if run_id in found and found[run_id]["event_id"] in known:
            record = _record(found[run_id], stepped.get(run_id, []), waited.get(run_id, []), known)
            if run_id in grouped:
                record["groups"] = [_group(group, branched.get(run_id, [])) for group in grouped[run_id]]
            if run_id in gathered:
                record["events"] = gathered[run_id]
            yield record


def _record(
    run: dict[str, Any], its_steps: list[dict[str, Any]], its_waits: list[dict[str, Any]], known: dict[str, Any]
) -> dict[str, Any]:
    waits_by_key = {wait["key"]: _wait(wait, known) for wait in its_waits}
    return {
        "run": {name: value for name, value in plain(run).items() if name not in ("event_id", "batch")},
        "event": _event(known[run["event_id"]]),
        "steps": [_step(step, waits_by_key.get(step["key"])) for step in its_steps],
    }


def _step(step: dict[str, Any], wait: dict[str, Any] | None) -> dict[str, Any]:
    shown = plain(step)
    return {"id": shown.pop("key"), **shown, "wait": wait}


def _group(group: dict[str, Any], of_run: list[dict[str, Any]]) -> dict[str, Any]:
    own = [plain(branch) for branch in of_run if branch["group_path"] == group["path"]]
    shown = [{name: value for name, value in branch.items() if name != "group_path"} for branch in own]
    return {**plain(group), "branches": shown}


def _wait(wait: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    shown = plain({name: value for name, value in wait.items() if name not in ("key", "event_id", "value")})
    event = known.get(wait["event_id"])
    return {**shown, "match": wait["value"], "event": None if event is None else _event(event)}


def _event(event: dict[str, Any]) -> dict[str, Any]:
    shown = plain(event)
    return {"id": shown.pop("id"), "key": shown.pop("ext_id"), **shown}


def _gathered(store: Store, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The events of runs that batches made, in the order in which the handler has them."""
    found: dict[str, list[dict[str, Any]]] = {}
    if not ids:
        return found
    query = (
        select(batch_events.c.run_id, *(events.c[name] for name in EVENT))
        .join(events, events.c.id == batch_events.c.event_id)
        .where(batch_events.c.run_id.in_(ids), batch_events.c.no >= 0)
        .order_by(batch_events.c.run_id, batch_events.c.no, events.c.id)
    )
    for run_id, *row in read(store, query):
        found.setdefault(run_id, []).append(_event(dict(zip(EVENT, row, strict=True))))
    return found


def _by_run(
    store: Store, table: Table, names: Sequence[str], ids: Sequence[str], order: Sequence[Any]
) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(store, table, ("run_id", *names), table.c.run_id.in_(ids), order):
        found.setdefault(row.pop("run_id"), []).append(row)
    return found


def _rows(
    store: Store, table: Table, names: Sequence[str], condition: ColumnElement[bool], order: Sequence[Any] = ()
) -> list[dict[str, Any]]:
    query = select(*(table.c[name] for name in names)).where(condition).order_by(*order)
    return [dict(zip(names, row, strict=True)) for row in read(store, query)]
