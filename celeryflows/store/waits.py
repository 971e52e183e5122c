"""Waits, and the shapes by which arriving events find them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from celeryflows.model.waits import OpenWait, WaitSpec
from celeryflows.store.events import read_event
from celeryflows.store.executor import Row, Verbs

SHAPES_BOUND = 32
# What the path of an invoke's wait says when its run is cancelled with the parent.
BOUND = "with parent"


@dataclass(frozen=True, slots=True)
class NewWait:
    """A wait to write; `due` is when it times out."""

    id: str
    run: str
    spec: WaitSpec
    due: int
    branch: str = ""


class Waits(Verbs):
    """The verbs of waits."""

    def shapes(self, names: Iterable[str]) -> dict[str, list[str]]:
        """The paths that are waited on, by event name; read after the names are locked."""
        found: dict[str, list[str]] = {}
        rows = self._execute(
            "SELECT name, path FROM flows_shapes WHERE name {in_texts:names} ORDER BY name, path",
            names=self._array(sorted(set(names))),
        )
        for name, path in rows:
            found.setdefault(name, []).append(path)
        return found

    def shapes_and_version(self, names: Iterable[str]) -> tuple[dict[str, list[str]], str]:
        """The paths, and the version of the declared flows: all that a sender asks, in one statement."""
        found: dict[str, list[str]] = {}
        version = "0"
        for name, path in self._execute(
            "SELECT name, path FROM flows_shapes WHERE name {in_texts:names} "
            "UNION ALL SELECT NULL, value FROM flows_meta WHERE key = 'flows_version'",
            names=self._array(sorted(set(names))),
        ):
            if name is None:
                version = path
            else:
                found.setdefault(name, []).append(path)
        return found, version

    def add_shape(self, name: str, path: str) -> None:
        """Make a path known for good; under the name's exclusive lock."""
        self._execute(
            "INSERT INTO flows_shapes (name, path) VALUES (:name, :path) ON CONFLICT DO NOTHING", name=name, path=path
        )

    def arm(self, wait: NewWait) -> None:
        """Open a wait, or leave it as it stands when the run has it already."""
        spec, sealer = wait.spec, self._connection.sealer
        self._execute(
            "INSERT INTO flows_waits (id, run_id, key, kind, name, path, hash, value, if_exp, began, armed_at, "
            "state, due_at, branch) VALUES (:id, :run, :key, 'event', :name, :path, :hash, :value, :if_exp, :began, "
            "{now}, 'open', :due, :branch) ON CONFLICT (run_id, key) DO NOTHING",
            id=wait.id,
            run=wait.run,
            key=spec.key,
            name=spec.name,
            path=spec.path,
            hash=spec.hash if sealer is None else sealer.mark(spec.hash),
            value=spec.value,
            if_exp=spec.if_exp,
            began=spec.began,
            due=wait.due,
            branch=wait.branch,
        )

    def open_for(
        self,
        name: str,
        hashes: Sequence[int],
        *,
        after: str = "",
        armed_by: int | None = None,
        limit: int = 1_000_000,
    ) -> list[OpenWait]:
        """Open waits that an event may answer, by id. `hashes` are those of its values under the name's paths."""
        sealer = self._connection.sealer
        hashes = hashes if sealer is None else sealer.marks(hashes)
        if not hashes:
            return []
        among = _among(sorted(set(hashes)))
        one_of = ", ".join(f"CAST(:{one} AS bigint)" for one in among)
        rows = self._execute(
            "SELECT w.id, w.run_id, w.key, w.name, w.path, w.value, w.if_exp, "
            "e.id, e.ext_id, e.name, e.data, e.ts, e.v, w.kind, r.event_id, w.branch "
            "FROM flows_waits w "
            "LEFT JOIN flows_runs r ON r.id = w.run_id AND (w.if_exp IS NOT NULL OR w.kind = 'cancel') "
            "LEFT JOIN flows_events e ON e.id = r.event_id AND w.if_exp IS NOT NULL "
            f"WHERE w.name = :name AND w.hash IN ({one_of}) AND w.state = 'open' AND w.name > '' "
            "AND w.id > :after "
            "AND (w.kind = 'event' OR (w.kind = 'cancel' AND (w.due_at IS NULL OR w.due_at > {now}))) "
            "AND (CAST(:armed_by AS bigint) IS NULL OR w.armed_at <= CAST(:armed_by AS bigint)) "
            "ORDER BY w.id LIMIT :most",
            name=name,
            **among,
            after=after,
            armed_by=armed_by,
            most=limit,
        )
        return [_open_wait(row) for row in rows]

    def answer(self, wait_id: str, event_id: str) -> str | None:
        """Answer an open wait; the run's id, None when it was answered or expired before."""
        rows = self._execute(
            "UPDATE flows_waits SET state = 'answered', event_id = :event "
            "WHERE id = :id AND state = 'open' RETURNING run_id",
            id=wait_id,
            event=event_id,
        )
        return rows[0][0] if rows else None

    def settled(self, run_id: str, keys: Sequence[str]) -> bool:
        """True when one of these waits is no longer open; read after the run's row is locked."""
        return bool(
            self._execute(
                "SELECT 1 FROM flows_waits WHERE run_id = :run AND key {in_texts:keys} AND state <> 'open' LIMIT 1",
                run=run_id,
                keys=self._array(keys),
            )
        )

    def expire(self, run_ids: Sequence[str]) -> None:
        """Close the due waits of runs whose rows are locked."""
        self._execute(
            "UPDATE flows_waits SET state = 'expired' "
            "WHERE run_id {in_texts:runs} AND branch = '' AND state = 'open' AND due_at <= {now}",
            runs=self._array(run_ids),
        )

    def expire_in_branches(self, units: Sequence[tuple[str, str]]) -> None:
        """Close the due waits of branches whose rows are locked."""
        for run, branch in sorted(units):
            self._execute(
                "UPDATE flows_waits SET state = 'expired' "
                "WHERE run_id = :run AND branch = :branch AND state = 'open' AND due_at <= {now}",
                run=run,
                branch=branch,
            )

    def close(self, run_id: str) -> None:
        """Close all that a run waits for: it ends."""
        self._execute("UPDATE flows_waits SET state = 'closed' WHERE run_id = :run AND state = 'open'", run=run_id)

    def close_below(self, run_id: str, prefix: str) -> bool:
        """Close all that is waited for in the branches whose path begins so; True when runs were bound to these, and
        may go on: also those for which the time was out."""
        rows = self._execute(
            "UPDATE flows_waits SET state = CASE WHEN state = 'open' THEN 'closed' ELSE state END WHERE run_id = :run "
            "AND (state = 'open' OR (state = 'expired' AND kind = 'invoke' AND path = :bound)) AND branch <> '' "
            "AND substr(branch, 1, length(CAST(:prefix AS varchar))) = CAST(:prefix AS varchar) "
            "RETURNING CASE WHEN kind = 'invoke' THEN path END",
            run=run_id,
            prefix=prefix,
            bound=BOUND,
        )
        return (BOUND,) in rows

    def note_problem(self, wait_id: str, problem: str) -> None:
        """Why its condition could not be judged for an event."""
        self._execute("UPDATE flows_waits SET problem = :problem WHERE id = :id", id=wait_id, problem=problem)


def _among(hashes: Sequence[int]) -> dict[str, int]:
    """As so many parameters, the last of them again up to a power of two: there are few such statements then, and of
    each PostgreSQL keeps a plan, where it would make one for every array anew."""
    return {f"hash{n}": hashes[min(n, len(hashes) - 1)] for n in range(1 << (len(hashes) - 1).bit_length())}


def _open_wait(row: Row) -> OpenWait:
    id, run, key, name, path, value, if_exp = row[:7]
    trigger = read_event(row[7:13]) if row[7] is not None else None
    return OpenWait(id, run, key, name, path, value, if_exp, trigger, row[13], row[14], row[15])
