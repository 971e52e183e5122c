"""Our verbs on a connection that is somebody else's: what they write belongs to that one's open transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celeryflows.store.connection import Backing, Connection


class Joined(Connection):
    """Speaks through a cursor of another's, on the store's database. It begins, ends and gives back nothing, and what
    goes wrong is raised as the owner of the transaction knows it."""

    def __init__(self, store: Backing, cursor: Any) -> None:
        super().__init__(store)
        self._cursor = self.dialect.cursor(cursor)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """It has begun already."""
        yield

    def close(self) -> None:
        """Leave it to its owner."""
        self._cursor = None

    def _open(self) -> Any:
        raise RuntimeError("the cursor of the transaction that was joined is gone")

    def _drop(self) -> None:
        self.close()

    def _translated(self, error: Exception) -> Exception:
        return error
