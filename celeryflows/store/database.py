"""The store: one database behind SQLAlchemy's pool, its identity and schema, and the way into a connection."""

import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import QueuePool, StaticPool

from celeryflows.clock import Clock, SystemClock, TurnedClock
from celeryflows.errors import ConfigurationError
from celeryflows.store import mariadb_session
from celeryflows.store.connection import Connection
from celeryflows.store.dialect import Dialect
from celeryflows.store.sealing import Sealer
from celeryflows.store.versions import prepare

T = TypeVar("T")
LOOKS = 4
DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "sqlite": "sqlite",
    "mariadb": "mariadb+pymysql",
}
MARIADB_DRIVERS = ("", "pymysql", "mysqldb")
EXTRAS = {"postgresql": "postgres", "mariadb": "mysql"}


class Store:
    """The one truth of all runs.

    `url` is any SQLAlchemy URL of SQLite, PostgreSQL or MariaDB; `sqlite://` lives in memory. `clock` is used by
    SQLite, and by every database when it is a TurnedClock (tests). `sealer` encrypts payloads. Raises
    ConfigurationError for a URL that cannot be used.
    """

    def __init__(
        self, url: str, *, clock: Clock | None = None, patience: float = 5.0, sealer: Sealer | None = None
    ) -> None:
        self.url = _read_url(url)
        self.clock = clock or SystemClock()
        self.patience = patience
        backend = self.url.get_backend_name()
        self.in_memory = backend == "sqlite" and self.url.database in (None, "", ":memory:")
        self.dialect = Dialect(backend, turned=isinstance(self.clock, TurnedClock))
        self.compiled: dict[str, str] = {}
        self.sealer = sealer
        self.payload_columns: dict[str, tuple[int, ...]] = {}
        self.observer: Callable[[str], None] | None = None
        # True where the calling code has a transaction of its own open on this database.
        self.held_here: Callable[[], bool] | None = None
        # One connection serves a store in memory: its transactions take turns.
        self.guard: Any = threading.RLock() if self.in_memory else nullcontext()
        # So many of those who wait for a run look for it at once: connections are for who works.
        self.looks = threading.BoundedSemaphore(LOOKS)
        self._engine: Engine | None = None
        self._making = threading.Lock()
        _forget_in_children(self)

    @property
    def engine(self) -> Engine:
        """The pool of this process, made at first use; a forked child makes its own."""
        engine = self._engine
        if engine is None:
            with self._making:
                if self._engine is None:
                    self._engine = _make_engine(self.url, in_memory=self.in_memory)
                engine = self._engine
        return engine

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for single statements, each its own commit. Hold it for a turn, never a transaction."""
        connection = Connection(self)
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back when it raises."""
        with self.connection() as connection, connection.transaction():
            yield connection

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; a deadlock or a dropped connection tries it again, so it must be repeatable."""
        with self.connection() as connection:
            return connection.transact(work)

    def prepare(self) -> None:
        """Create an SQLite store that is missing; check the schema of any. Raises SchemaMismatch with the remedy."""
        try:
            prepare(self)
        except BaseException:
            # Nobody keeps a store that cannot be used: its connections would stay open.
            self.dispose()
            raise

    def agree_on_keys(self) -> None:
        """Tell the store the key under which this process seals, so that none goes on without it. One that lacks keys
        of the store says nothing: it is refused before it writes, and must not lock out the others."""
        under = self.sealer.writes_under if self.sealer is not None else None
        if self.sealer is None or under is None:
            return
        with self.connection() as connection:
            known = connection.flows.sealed_under()
        if under not in known and self.sealer.fingerprints.issuperset(known):
            self.transact(lambda tx: tx.flows.seal_under(under))

    def shown_url(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    def dispose(self) -> None:
        """Close every pooled connection of this process."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def forget(self) -> None:
        """After a fork: drop the parent's connections without closing them."""
        engine, self._engine = self._engine, None
        self._making, self.looks = threading.Lock(), threading.BoundedSemaphore(LOOKS)
        if self.in_memory:
            self._engine = engine
            self.guard = threading.RLock()
        elif engine is not None:
            engine.dispose(close=False)


def _read_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError(
            f"flows_store_url is no database URL: {url.split('@')[-1]!r}. For example sqlite:////var/lib/shop/flows.db "
            "or postgresql://user@host/name"
        ) from None
    backend, _, driver = parsed.drivername.partition("+")
    # Who writes mysql:// has MariaDB, or is told at the first connection.
    backend = "mariadb" if backend == "mysql" else backend
    if backend not in DRIVERS:
        raise ConfigurationError(
            f"flows_store_url: {backend!r} is no store of celeryflows. Use PostgreSQL, MariaDB or SQLite."
        )
    if backend == "mariadb" and driver not in MARIADB_DRIVERS:
        raise ConfigurationError(
            f"flows_store_url: the driver {driver!r} is none for celeryflows. Use mariadb://, mariadb+pymysql:// or "
            "mariadb+mysqldb:// (mysqlclient)."
        )
    if backend == "mariadb" and not driver and find_spec("pymysql") is None and find_spec("MySQLdb") is not None:
        driver = "mysqldb"
    return parsed.set(drivername=f"{backend}+{driver}" if driver else DRIVERS[backend])


def _make_engine(url: URL, *, in_memory: bool) -> Engine:
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"}
    if in_memory:
        options |= {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        # All share the one connection: giving it back must not roll another thread's transaction back.
        options["pool_reset_on_return"] = None
    else:
        # As many connections as there are turns at once; each worker slot holds at most one.
        options |= {"poolclass": QueuePool, "pool_size": 5, "max_overflow": -1, "pool_recycle": 1800}
    if url.get_backend_name() == "sqlite":
        options.setdefault("connect_args", {})["timeout"] = 30.0
        if not in_memory:
            _make_folder(Path(str(url.database).removeprefix("file:")))
    elif url.get_backend_name() == "mariadb":
        options["connect_args"] = {"connect_timeout": 5, "charset": "utf8mb4"}
    else:
        url, options["connect_args"] = _postgres_settings(url)
    try:
        engine = create_engine(url, **options)
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigurationError(
            f"The store {url.render_as_string()} needs a driver that is not installed ({error}). "
            f"Install it with: pip install 'celeryflows[{EXTRAS.get(url.get_backend_name(), 'postgres')}]'"
        ) from error
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _tune_sqlite)
    elif url.get_backend_name() == "mariadb":
        event.listen(engine, "connect", lambda raw, _record: mariadb_session.settle(raw))
    return engine


def _postgres_settings(url: URL) -> tuple[URL, dict[str, Any]]:
    """What the driver is told; what the URL says goes first. A pooler that hands out connections by transaction, and
    does not follow prepared statements, needs `?prepare_threshold=none`."""
    settings: dict[str, Any] = {"connect_timeout": 5, "prepare_threshold": 0, "application_name": "celeryflows"}
    given = {name: value for name, value in url.query.items() if name in settings}
    threshold = given.pop("prepare_threshold", None)
    if threshold is not None:
        if not re.fullmatch(r"none|\d{1,9}", str(threshold)):
            raise ConfigurationError(
                f"flows_store_url: prepare_threshold={threshold} is no number and not 'none', which prepares nothing"
            )
        settings["prepare_threshold"] = None if threshold == "none" else int(str(threshold))
    for name in given:
        del settings[name]
    return url.difference_update_query(["prepare_threshold"]), settings


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The store's folder {path.parent} cannot be made: {error.strerror}. Set flows_store_url to a place that "
            "can be written."
        ) from error


def _tune_sqlite(raw: Any, _record: object) -> None:
    cursor = raw.cursor()
    with suppress(Exception):
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


_stores: "weakref.WeakSet[Store]" = weakref.WeakSet()


def _forget_in_children(store: Store) -> None:
    _stores.add(store)


def _after_fork() -> None:
    for store in list(_stores):
        store.forget()


os.register_at_fork(after_in_child=_after_fork)
