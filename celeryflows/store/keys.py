"""Keys of the doors: their hashes, what each opens, and until when."""

from dataclasses import dataclass

from celeryflows.store.executor import Verbs

COLUMNS = "id, kind, name, role, hash, created_at, ends_at"


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key's row. Times in microseconds; `ends_at` None: until it is revoked."""

    id: str
    kind: str
    name: str
    role: str | None
    hash: str
    created_at: int
    ends_at: int | None


class Keys(Verbs):
    """The verbs of keys."""

    def add(self, id: str, kind: str, name: str, role: str | None, hash: str) -> None:
        """A new key, good from now on."""
        self._execute(
            f"INSERT INTO flows_keys ({COLUMNS}) VALUES (:id, :kind, :name, :role, :hash, {{now}}, NULL)",
            id=id,
            kind=kind,
            name=name,
            role=role,
            hash=hash,
        )

    def get(self, id: str) -> KeyRow | None:
        """One key, None when there is none."""
        rows = self._execute(f"SELECT {COLUMNS} FROM flows_keys WHERE id = :id", id=id)
        return KeyRow(*rows[0]) if rows else None

    def all(self) -> list[KeyRow]:
        """Every key, also those that are over, the oldest first."""
        return [KeyRow(*row) for row in self._execute(f"SELECT {COLUMNS} FROM flows_keys ORDER BY id")]

    def end(self, id: str, after: int) -> bool:
        """The key is over `after` microseconds from now; False when it ends before that, or there is none."""
        return bool(
            self._execute(
                "UPDATE flows_keys SET ends_at = {now} + :after "
                "WHERE id = :id AND (ends_at IS NULL OR ends_at > {now} + :after) RETURNING id",
                id=id,
                after=after,
            )
        )
