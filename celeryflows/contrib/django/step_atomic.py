"""`step.transaction` in a Django project: an atomic block, with the memo of the step in it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError, transaction

from celeryflows.errors import StepMisuse, StoreUnavailable
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.joined import Joined
from celeryflows.store.steps import StepRow
from celeryflows.store.user_transaction import UserTransaction


class AtomicStep:
    """An atomic block on the store's database, begun. The user's function is given Django's connection."""

    def __init__(self, store: Store, connection: Any) -> None:
        self.afterwards: list[Callable[[], object]] = []
        self._connection = connection
        self._opens = connection.connection is None
        self._block: Any = _begin(connection)
        try:
            self._cursor = connection.cursor()
        except BaseException:
            self.end()
            raise
        self._own = Joined(store, self._cursor)

    @contextmanager
    def handed_to(self, fn: Callable[..., Any]) -> Iterator[Any]:
        """Django's own connection."""
        yield self._connection

    def check_whole(self, key: str) -> None:
        """Raise StepMisuse when the function has closed the connection, or marked it for rollback."""
        _check(self._connection, self._block, key)

    def record(self, row: StepRow) -> int | None:
        """Record the step in the transaction, fenced by the run's row, which is held from here to the commit."""
        return self._own.steps.record(row)

    def commit(self) -> None:
        """Leave the block. What it raises does not tell whether it is committed: on_commit runs here too."""
        self._cursor.close()
        block, self._block = self._block, None
        block.__exit__(None, None, None)
        if not self._connection.get_autocommit():
            # A project that commits by hand: its blocks are savepoints.
            self._connection.commit()

    def look(self, at: Callable[[Connection], None]) -> None:
        """Read by our own verbs within the transaction. A dead connection is dropped, for the next try to make one."""
        try:
            at(self._own)
        except (InterfaceError, OperationalError) as error:
            raise _unavailable(error) from error

    def end(self) -> None:
        """Roll back what is not committed; a connection that the step opened is closed: threads come and go."""
        block, self._block = self._block, None
        try:
            if block is not None:
                _roll_back(block)
                if self._connection.connection is not None and not self._connection.get_autocommit():
                    self._connection.rollback()
        finally:
            if self._opens or self._connection.errors_occurred:
                with suppress(DatabaseError, InterfaceError):
                    self._connection.close()


class AtomicBeside(UserTransaction):
    """For an engine on a store of its own: the user's statements are rolled back or committed with the step's."""

    def __init__(self, store: Store, connection: Any) -> None:
        super().__init__(store)
        self._django = connection
        self._block: Any = None
        try:
            self._block = _begin(connection)
        except BaseException:
            self.end()
            raise

    @contextmanager
    def handed_to(self, fn: Callable[..., Any]) -> Iterator[Any]:
        """Django's own connection."""
        yield self._django

    def check_whole(self, key: str) -> None:
        """As without."""
        _check(self._django, self._block, key)

    def commit(self) -> None:
        """Both."""
        super().commit()
        block, self._block = self._block, None
        block.__exit__(None, None, None)

    def end(self) -> None:
        """Both."""
        block, self._block = self._block, None
        try:
            if block is not None:
                _roll_back(block)
        finally:
            super().end()


def _begin(connection: Any) -> Any:
    block = transaction.atomic(using=connection.alias, durable=True)
    try:
        block.__enter__()
    except RuntimeError as error:
        raise StepMisuse(
            "step.transaction was called inside an atomic() block, whose end would commit it; call it outside, and put "
            "what belongs together into its function"
        ) from error
    except (InterfaceError, OperationalError) as error:
        raise _unavailable(error) from error
    return block


def _roll_back(block: Any) -> None:
    error = RuntimeError("the step was not committed")
    block.__exit__(RuntimeError, error, None)


def _check(connection: Any, block: Any, key: str) -> None:
    if connection.closed_in_transaction or not connection.in_atomic_block or connection.atomic_blocks[-1] is not block:
        raise StepMisuse(
            f"the function of step {key!r} closed its connection or left its transaction; leave both to it"
        )
    if connection.needs_rollback:
        raise StepMisuse(
            f"the function of step {key!r} swallowed an error that broke its transaction; let it out, or put what may "
            "fail into an atomic() of its own"
        )


def _unavailable(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"The store does not answer ({str(error).strip().splitlines()[0]}). Is its server up?")
