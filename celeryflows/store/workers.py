"""Workers and their heartbeats, and the lease of the one that leads."""

from dataclasses import dataclass

from celeryflows.store.executor import Verbs
from celeryflows.store.versions import newest_version


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker process; its id is new at each start. Times in microseconds."""

    id: str
    app: str
    release: str
    host: str
    pid: int
    pool: str
    queues: str
    started_at: int = 0
    beat_at: int = 0
    consumer_at: int | None = None


class Workers(Verbs):
    """The verbs of workers and their leader."""

    def start(self, worker: WorkerRow) -> None:
        """Enter a worker that starts, with the schema that its code wants."""
        self._execute(
            "INSERT INTO flows_workers "
            "(id, app, release, host, pid, pool, queues, schema_version, started_at, beat_at) "
            "VALUES (:id, :app, :release, :host, :pid, :pool, :queues, :wants, {now}, {now}) "
            "ON CONFLICT (id) DO NOTHING",
            id=worker.id,
            app=worker.app,
            release=worker.release,
            host=worker.host,
            pid=worker.pid,
            pool=worker.pool,
            queues=worker.queues,
            wants=newest_version(),
        )

    def beat(self, worker_id: str) -> bool:
        """Alive; False when the row is gone, so that it is entered anew."""
        return bool(self._execute("UPDATE flows_workers SET beat_at = {now} WHERE id = :id RETURNING id", id=worker_id))

    def stop(self, worker_id: str) -> None:
        """Leave: what it still ran is then anybody's at once."""
        self._execute("DELETE FROM flows_workers WHERE id = :id", id=worker_id)

    def all(self) -> list[WorkerRow]:
        """Every worker that is entered."""
        rows = self._execute(
            "SELECT id, app, release, host, pid, pool, queues, started_at, beat_at, consumer_at FROM flows_workers "
            "ORDER BY started_at"
        )
        return [WorkerRow(*row) for row in rows]

    def any_alive(self, app: str, release: str, silence: int) -> bool:
        """True when a living worker of the app runs the release."""
        return bool(
            self._execute(
                "SELECT 1 FROM flows_workers "
                "WHERE app = :app AND release = :release AND beat_at > {now} - :silence LIMIT 1",
                app=app,
                release=release,
                silence=silence,
            )
        )

    def prune(self, silence: int) -> None:
        """Forget workers long silent that hold no run."""
        self._execute(
            "DELETE FROM flows_workers WHERE beat_at <= {now} - :silence AND NOT EXISTS "
            "(SELECT 1 FROM flows_runs r WHERE r.worker = flows_workers.id AND r.status = 'running' AND r.sends >= 0)",
            silence=silence,
        )

    def lead(self, worker_id: str, lease: int) -> bool:
        """Take or renew the lease; False while another holds it."""
        self._execute(
            "INSERT INTO flows_leader (id, holder, until, epoch) VALUES (1, :me, 0, 0) ON CONFLICT (id) DO NOTHING",
            me=worker_id,
        )
        return bool(
            self._execute(
                "UPDATE flows_leader SET holder = :me, until = {now} + :lease, epoch = epoch + 1 "
                "WHERE id = 1 AND (holder = :me OR until < {now}) RETURNING epoch",
                me=worker_id,
                lease=lease,
            )
        )

    def resign(self, worker_id: str) -> None:
        """Give the lease up at once."""
        self._execute("UPDATE flows_leader SET until = 0 WHERE id = 1 AND holder = :me", me=worker_id)
