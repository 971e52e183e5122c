"""Advisory locks of classes 0 and 1: names and stripes, each sorted. SQLite has one writer and takes none.

MariaDB has none that are shared: rows of `flows_locks` stand for them there, each made when it is first needed."""

from collections.abc import Iterable, Sequence
from typing import Literal

from celeryflows.ids import hash64
from celeryflows.store.executor import Verbs

STRIPES = 256
# The first key of PostgreSQL's two-key locks tells names, stripes and migrations apart.
NAMES_SPACE, STRIPES_SPACE, SCHEMA_SPACE, TELLING_SPACE = 741_001, 741_002, 741_003, 741_004
# Gates have a key of 64 bits, with no space beside it; among MariaDB's rows they have this one.
GATES_SPACE = 741_005
Mode = Literal["shared", "alone"]
_FUNCTIONS = {"shared": "pg_advisory_xact_lock_shared", "alone": "pg_advisory_xact_lock"}
_ROW_LOCKS = {"shared": "{share}", "alone": "{lock}"}


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
        self._take("shared", NAMES_SPACE, {name_key(name) for name in names})

    def hold_name(self, name: str) -> None:
        """Class 0, exclusive: for the first wait ever on a new path of the name."""
        self._take("alone", NAMES_SPACE, {name_key(name)})

    def share_stripes(self, hashes: Iterable[int]) -> None:
        """Class 1, shared: a sender, for each value that somebody may wait for."""
        self._take("shared", STRIPES_SPACE, {stripe(h) for h in hashes})

    def hold_stripes(self, hashes: Iterable[int]) -> None:
        """Class 1, exclusive: a wait, for what it waits for."""
        self._take("alone", STRIPES_SPACE, {stripe(h) for h in hashes})

    def hold_names_and_stripes(self, shared: Sequence[str], alone: Sequence[str], hashes: Iterable[int]) -> None:
        """Class 0 in one sorted order though some are exclusive, then class 1 exclusive."""
        keys: dict[int, Mode] = {name_key(name): "shared" for name in shared}
        keys |= {name_key(name): "alone" for name in alone}
        for key in sorted(keys):
            self._take(keys[key], NAMES_SPACE, {key})
        self.hold_stripes(hashes)

    def share_telling(self) -> None:
        """After all others, shared: whether somebody listens to the ends of runs is asked now, and counts until the
        commit. Nothing but runs and what belongs to them is locked after it."""
        self._take("shared", TELLING_SPACE, {0})

    def hold_telling(self) -> None:
        """The same alone: somebody begins to listen, and locks nothing after it."""
        self._take("alone", TELLING_SPACE, {0})

    # -- the rows that stand for gates, where there are no advisory locks

    def share_gate(self, key: int) -> None:
        """Class 6, shared."""
        self._take_rows("shared", GATES_SPACE, [key])

    def hold_gate(self, key: int) -> None:
        """Class 6, exclusive."""
        self._take_rows("alone", GATES_SPACE, [key])

    def forget_gate(self, key: int) -> None:
        """A gate that is held alone is no more: who waits for it makes its row anew."""
        self._execute("DELETE FROM flows_locks WHERE space = :space AND n = :key", space=GATES_SPACE, key=key)

    def _take(self, mode: Mode, space: int, keys: set[int]) -> None:
        dialect = self._connection.dialect
        if not keys or dialect.has_one_writer:
            return
        if dialect.has_advisory_locks:
            taken = ", ".join(f"{_FUNCTIONS[mode]}({space}, {key})" for key in sorted(keys))
            self._connection.lock(f"SELECT {taken}")
        else:
            self._take_rows(mode, space, sorted(keys))

    def _take_rows(self, mode: Mode, space: int, keys: list[int]) -> None:
        there = {
            row[0]
            for row in self._execute(
                "SELECT n FROM flows_locks FORCE INDEX (PRIMARY) WHERE space = :space AND n {in_numbers:keys} "
                f"ORDER BY n {_ROW_LOCKS[mode]}",
                space=space,
                keys=self._array(keys),
            )
        }
        for key in keys:
            if key not in there:
                # Alone until the commit, whatever was asked for: that is once.
                self._execute(
                    "INSERT INTO flows_locks (space, n) VALUES (:space, :key) ON CONFLICT DO NOTHING",
                    space=space,
                    key=key,
                )
