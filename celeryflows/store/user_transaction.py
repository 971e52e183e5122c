"""The transaction of `step.transaction`: the one place where the store hands a connection out.

What the user's function writes and the record of its step commit together, or neither does."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Protocol

from sqlalchemy import Connection as UsersConnection
from sqlalchemy import event

from celeryflows.errors import StepMisuse
from celeryflows.store.connection import Connection, writing
from celeryflows.store.database import Store
from celeryflows.store.steps import StepRow

_open: ContextVar["Transaction | None"] = ContextVar("celeryflows_user_transaction", default=None)


class Transaction(Protocol):
    """A transaction that a user's function writes in, begun. `afterwards` is called when it is over."""

    afterwards: list[Callable[[], object]]

    def handed_to(self, fn: Callable[..., Any]) -> AbstractContextManager[Any]:
        """What the function is given first, for a block."""
        ...

    def check_whole(self, key: str) -> None:
        """Raise StepMisuse when the function has ended the transaction itself."""
        ...

    def record(self, row: StepRow) -> int | None:
        """Record the step in the transaction, fenced by the run's row, which is held from here to the commit."""
        ...

    def commit(self) -> None:
        """Commit. What it raises does not tell whether it did."""
        ...

    def look(self, at: Callable[[Connection], None]) -> None:
        """Read by our own verbs within the transaction."""
        ...

    def end(self) -> None:
        """Roll back what is not committed, and give the connection back."""
        ...


class UserTransaction:
    """A transaction on the store's database, begun. `connection` is the user's; `afterwards` is called when it is over.

    Nobody but `commit` here commits it. Read committed on servers; SQLite takes its write lock at the beginning.
    """

    def __init__(self, store: Store) -> None:
        self._commits = False
        self._own = _Joined(store)
        self.afterwards: list[Callable[[], object]] = []
        try:
            self.given = self.connection = _connected(store)
            event.listen(self.connection, "commit", self._check_commit)
            self._root = self.connection.begin()
            self._own.join(self.connection)
        except Exception as error:
            self._own.leave()
            raise self._own.translated(error) from error

    @contextmanager
    def handed_to(self, fn: Callable[..., Any]) -> Iterator[Any]:
        """What the function is given first: a Session when its first parameter is annotated as one, else the
        Connection. A session is flushed at the end of the block."""
        kind = _session_kind(fn)
        if kind is None:
            yield self.given
            return
        with kind(bind=self.given) as session:
            yield session
            session.flush()

    def check_whole(self, key: str) -> None:
        """Raise StepMisuse when the function has ended the transaction itself."""
        is_whole = (
            not self.connection.closed
            and self.connection.get_transaction() is self._root
            and self._root.is_active
            and self._own.in_transaction
        )
        if not is_whole:
            raise StepMisuse(
                f"the function of step {key!r} ended its transaction itself (commit, rollback or close); raise an "
                "error to roll back, take begin_nested() for a part, and leave the commit to the step"
            )

    def record(self, row: StepRow) -> int | None:
        """Record the step in the transaction, fenced by the run's row, which is held from here to the commit."""
        return self._own.steps.record(row)

    def commit(self) -> None:
        """Commit. What it raises does not tell whether it did."""
        self._commits = True
        self._root.commit()

    def look(self, at: Callable[[Connection], None]) -> None:
        """Read by our own verbs within the transaction."""
        at(self._own)

    def end(self) -> None:
        """Roll back what is not committed, and give the connection back."""
        try:
            # SQLAlchemy leaves it to the pool to roll back after a commit that was refused; in memory there is none.
            self._own.roll_back()
            self.connection.close()
        except Exception:
            # In the midst of a statement, or broken: whoever takes it next must not inherit that.
            with suppress(Exception):
                self.connection.invalidate()
                self.connection.close()

    def _check_commit(self, _connection: UsersConnection) -> None:
        if not self._commits:
            raise StepMisuse(
                "step.transaction commits what its function writes together with its record; leave the commit to it "
                "(a Session(bind=connection) may be committed: that flushes)"
            )


@contextmanager
def user_transaction(
    store: Store, look: Callable[[Connection], None], begin: Callable[[Store], Transaction] = UserTransaction
) -> Iterator[Transaction]:
    """A begun transaction; rolled back at the end of the block unless it was committed.

    `look` reads first: it may refuse, and it meets a dead connection before the user does. `begin`: another's.
    """
    with store.guard:
        transaction = Connection(store).repeat(lambda: _begun(begin(store), look))
        tokens = _open.set(transaction), writing.set(store)
        try:
            yield transaction
        finally:
            _open.reset(tokens[0])
            writing.reset(tokens[1])
            transaction.end()
            for call in transaction.afterwards:
                call()


def open_here() -> Transaction | None:
    """The transaction that the calling code runs in."""
    return _open.get()


def _begun(transaction: Transaction, look: Callable[[Connection], None]) -> Transaction:
    try:
        transaction.look(look)
    except BaseException:
        transaction.end()
        raise
    return transaction


def _connected(store: Store) -> UsersConnection:
    connection = store.engine.connect()
    if store.dialect.name == "postgresql":
        return connection.execution_options(isolation_level="READ COMMITTED")
    # The pool's connections begin nothing by themselves; SQLite would take its lock too late besides.
    event.listen(connection, "begin", lambda begun: begun.exec_driver_sql(store.dialect.begin))
    return connection


def _session_kind(fn: Callable[..., Any]) -> Any:
    """The Session class that the first parameter is annotated with, if any."""
    # Who works with a Session has loaded the ORM; nobody else pays for it.
    orm = sys.modules.get("sqlalchemy.orm")
    if orm is None:
        return None
    try:
        first = next(iter(inspect.signature(fn, eval_str=True).parameters.values()), None)
    except Exception:  # an annotation that cannot be read, such as a name imported for type checkers alone
        return orm.Session if _written_annotation(fn).rpartition(".")[2] == "Session" else None
    kind = first.annotation if first is not None else None
    return kind if isinstance(kind, type) and issubclass(kind, orm.Session) else None


def _written_annotation(fn: Callable[..., Any]) -> str:
    with suppress(TypeError, ValueError):
        first = next(iter(inspect.signature(fn).parameters.values()), None)
        return str(first.annotation) if first is not None else ""
    return ""


class _Joined(Connection):
    """Our verbs on the user's connection; it is not ours to give back."""

    _users: UsersConnection | None = None

    def join(self, users: UsersConnection) -> None:
        """From now on speak through it."""
        self._users = users
        self._raw = users.connection
        self._cursor = self.dialect.cursor(users.connection.cursor())

    def leave(self) -> None:
        """Let it go."""
        cursor, self._raw, self._cursor, self._users = self._cursor, None, None, None
        if cursor is not None:
            with suppress(Exception):
                cursor.close()

    @property
    def in_transaction(self) -> bool:
        """What the driver says."""
        driver = self._raw.dbapi_connection if self._raw is not None else None
        return driver is not None and self.dialect.in_transaction(driver)

    def roll_back(self) -> None:
        """Roll back whatever is open, and let it go."""
        if self.in_transaction:
            self._raw.dbapi_connection.rollback()
        self.leave()

    def translated(self, error: Exception) -> Exception:
        """The error in our words."""
        return self._translated(error)

    def _drop(self) -> None:
        users = self._users
        self.leave()
        if users is not None:
            with suppress(Exception):
                users.invalidate()
