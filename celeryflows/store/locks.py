"""Advisory locks of classes 0 and 1: names and stripes, each sorted. SQLite has one writer and takes none."""

from collections.abc import Iterable, Sequence

from celeryflows.ids import hash64
from celeryflows.store.executor import Verbs

STRIPES = 256
# The first key of PostgreSQL's two-key locks tells names, stripes and migrations apart.
NAMES_SPACE, STRIPES_SPACE, SCHEMA_SPACE, TELLING_SPACE = 741_001, 741_002, 741_003, 741_004


def name_key(name: str) -> int:
    """A signed 32-bit key of an event name; two names that share one only wait for each other."""
    return (hash64(name) & 0xFFFFFFFF) - 0x80000000


def stripe(wait_hash: int) -> int:
    """The stripe of what is waited for."""
    return wait_hash % STRIPES


class Locks(Verbs):
    """Held to the end of the transaction. What is guarded is read by a later statement, never by the same one."""

    def share_names(self, names: Iterable[str]) -> None:
        """Class 0, shared: senders of one name run side by side."""
        self._take("pg_advisory_xact_lock_shared", NAMES_SPACE, {name_key(name) for name in names})

    def hold_name(self, name: str) -> None:
        """Class 0, exclusive: for the first wait ever on a new path of the name."""
        self._take("pg_advisory_xact_lock", NAMES_SPACE, {name_key(name)})

    def share_stripes(self, hashes: Iterable[int]) -> None:
        """Class 1, shared: a sender, for each value that somebody may wait for."""
        self._take("pg_advisory_xact_lock_shared", STRIPES_SPACE, {stripe(h) for h in hashes})

    def hold_stripes(self, hashes: Iterable[int]) -> None:
        """Class 1, exclusive: a wait, for what it waits for."""
        self._take("pg_advisory_xact_lock", STRIPES_SPACE, {stripe(h) for h in hashes})

    def hold_names_and_stripes(self, shared: Sequence[str], alone: Sequence[str], hashes: Iterable[int]) -> None:
        """Class 0 in one sorted order though some are exclusive, then class 1 exclusive."""
        keys = {name_key(name): "pg_advisory_xact_lock_shared" for name in shared}
        keys |= {name_key(name): "pg_advisory_xact_lock" for name in alone}
        for key in sorted(keys):
            self._take(keys[key], NAMES_SPACE, {key})
        self.hold_stripes(hashes)

    def share_telling(self) -> None:
        """After all others, shared: whether somebody listens to the ends of runs is asked now, and counts until the
        commit. Nothing but runs and what belongs to them is locked after it."""
        self._take("pg_advisory_xact_lock_shared", TELLING_SPACE, {0})

    def hold_telling(self) -> None:
        """The same alone: somebody begins to listen, and locks nothing after it."""
        self._take("pg_advisory_xact_lock", TELLING_SPACE, {0})

    def _take(self, function: str, space: int, keys: set[int]) -> None:
        if not keys or not self._connection.dialect.has_advisory_locks:
            return
        self._connection.lock("SELECT " + ", ".join(f"{function}({space}, {key})" for key in sorted(keys)))
