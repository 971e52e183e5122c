"""`transaction.atomic()` around a send: with the store in that database what is sent belongs to it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, transaction

from celeryflows.contrib.django.databases import alias_url
from celeryflows.contrib.django.step_atomic import AtomicBeside, AtomicStep
from celeryflows.engine.callers import CallersTransaction
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.joined import Joined
from celeryflows.store.user_transaction import Transaction

WEAKER = "what is sent inside atomic() only waits for its commit: it is lost with a process that dies right after that"
LATE_LOCK = "SQLite's atomic() begins without its write lock: one that reads first may end as 'database is locked'"


class DjangoSurroundings:
    """A Django project."""

    def store_url(self, alias: str) -> str:
        """The URL of the alias."""
        return alias_url(alias)

    def callers(self, alias: str | None) -> "DjangoCallers":
        """Whose transactions on the alias are the store's too."""
        return DjangoCallers(alias)

    def callers_beside(self, alias: str | None) -> "CallersBeside":
        """Tests and eager mode."""
        return CallersBeside(alias)

    def warnings(self, alias: str | None) -> list[tuple[str, str]]:
        """A store that is elsewhere; a file whose blocks take the write lock too late."""
        if alias is None:
            return [
                (WEAKER, "Put the store into a database of the project: CELERY_FLOWS_STORE_URL = 'django:default'.")
            ]
        connection = connections[alias]
        mode = connection.settings_dict["OPTIONS"].get("transaction_mode") if connection.vendor == "sqlite" else ""
        if mode is None or mode.upper() == "DEFERRED":
            remedy = f"Set DATABASES[{alias!r}]['OPTIONS'] = {{'transaction_mode': 'IMMEDIATE', 'timeout': 20}}."
            return [(LATE_LOCK, remedy)]
        return []


class DjangoCallers:
    """Views, tasks and steps, with their atomic blocks. `alias`: the database that the store is in, if it is one."""

    def __init__(self, alias: str | None) -> None:
        self._alias = alias

    def open_here(self, store: Store) -> CallersTransaction | None:
        """The transaction on the store's database; else an atomic block on any other, the default one first."""
        if self._alias is not None and _is_open(connections[self._alias]):
            return OpenOnStore(store, connections[self._alias])
        waiting = [one for one in connections.all(initialized_only=True) if one.in_atomic_block]
        waiting.sort(key=lambda one: one.alias != "default")
        return OpenElsewhere(waiting[0]) if waiting else None

    def step_transaction(self, store: Store) -> Transaction | None:
        """An atomic block on the store's database."""
        return AtomicStep(store, connections[self._alias]) if self._alias is not None else None


class CallersBeside:
    """Where the engine has a store of its own, nothing waits for a commit that a TestCase never makes."""

    def __init__(self, alias: str | None) -> None:
        self._alias = alias

    def open_here(self, store: Store) -> CallersTransaction | None:
        """What is sent goes at once."""
        return None

    def step_transaction(self, store: Store) -> Transaction | None:
        """An atomic block on the project's database, and one beside it on the store."""
        return AtomicBeside(store, connections[self._alias]) if self._alias is not None else None


class OpenOnStore:
    """A transaction on the store's database: rows of ours in it are committed and rolled back with it."""

    is_on_the_store = True

    def __init__(self, store: Store, connection: Any) -> None:
        self._store = store
        self._connection = connection

    @property
    def has_begun(self) -> bool:
        """As the driver says, where there is no block."""
        driver = self._connection.connection
        return self.is_block or (driver is not None and self._store.dialect.in_transaction(driver))

    @property
    def is_block(self) -> bool:
        """True inside `atomic()`."""
        return bool(self._connection.in_atomic_block)

    @contextmanager
    def verbs(self) -> Iterator[Connection]:
        """Through a cursor of Django's."""
        with self._connection.cursor() as cursor:
            joined = Joined(self._store, cursor)
            try:
                yield joined
            finally:
                joined.close()

    def after_commit(self, call: Callable[[], object]) -> None:
        """By on_commit; where the project commits by hand Django tells of no commit, and the workers find the rows."""
        if self._connection.in_atomic_block:
            transaction.on_commit(call, using=self._connection.alias)


class OpenElsewhere:
    """An atomic block on another database than the store's: what is sent waits for its commit, and no more."""

    is_on_the_store = False
    has_begun = is_block = True

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def verbs(self) -> Any:
        """There are none."""
        raise NotImplementedError("the store is in another database than this transaction")

    def after_commit(self, call: Callable[[], object]) -> None:
        """By on_commit: lost with a process that dies before it is called."""
        transaction.on_commit(call, using=self._connection.alias)


def _is_open(connection: Any) -> bool:
    if connection.in_atomic_block:
        return True
    is_automatic = (
        connection.autocommit if connection.connection is not None else connection.settings_dict["AUTOCOMMIT"]
    )
    return not is_automatic
