"""Runs whose ends may have been told to nobody while somebody began to listen: facts of the store, few and brief."""

from dataclasses import dataclass

from celeryflows.ids import derived_id
from celeryflows.store.executor import Verbs

BEGUN, UNTOLD = "heard:", "untold:"


@dataclass(frozen=True, slots=True)
class Noted:
    """A run that was at work, or had just ended, when somebody began to listen."""

    fact: str
    run_id: str


class Hearings(Verbs):
    """The verbs of what is to be told afterwards."""

    def begin(self, name: str, since: int) -> None:
        """Somebody begins to listen to this event of ours, to ends from that moment on."""
        self._execute(
            "INSERT INTO flows_meta (key, value) VALUES (:key, :since) ON CONFLICT (key) DO NOTHING",
            key=f"{BEGUN}{name}",
            since=str(since),
        )

    def begun(self) -> list[tuple[str, int]]:
        """The names to which somebody began to listen, and since when, while it is not noted yet who told nobody."""
        rows = self._execute(f"SELECT key, value FROM flows_meta WHERE substr(key, 1, {len(BEGUN)}) = :it", it=BEGUN)
        return [(key.removeprefix(BEGUN), int(since)) for key, since in rows]

    def note(self, name: str, since: int, most: int) -> None:
        """Note the runs at work now, and the last `most` that have ended after that moment."""
        rows = self._execute("SELECT id, turn FROM flows_runs WHERE status = 'running'")
        rows += self._execute(
            "SELECT id, turn FROM flows_runs WHERE ended_at > :since AND status <> 'skipped' "
            "ORDER BY ended_at DESC LIMIT :most",
            since=since,
            most=most,
        )
        self._many(
            "INSERT INTO flows_meta (key, value) VALUES (:key, :run) ON CONFLICT (key) DO NOTHING",
            [{"key": f"{UNTOLD}{turn}:{derived_id(run)}", "run": run} for run, turn in rows],
        )
        self._execute("DELETE FROM flows_meta WHERE key = :key", key=f"{BEGUN}{name}")

    def over(self, limit: int = 2000) -> list[Noted]:
        """The runs that are noted and whose turn of then is over."""
        rows = self._execute(
            "SELECT m.key, m.value, r.turn FROM flows_meta m "
            "LEFT JOIN flows_runs r ON r.id = m.value AND r.status = 'running' "
            f"WHERE substr(m.key, 1, {len(UNTOLD)}) = :it ORDER BY m.key LIMIT :most",
            it=UNTOLD,
            most=limit,
        )
        return [Noted(fact, run) for fact, run, turn in rows if turn is None or int(fact.split(":")[1]) != turn]

    def forget(self, one: Noted) -> None:
        """It is told, or has nothing to tell."""
        self._execute("DELETE FROM flows_meta WHERE key = :key", key=one.fact)
