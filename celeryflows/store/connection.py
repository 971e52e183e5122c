"""A connection with the store's verbs on it: single statements commit by themselves, a transaction is a block."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cached_property
from typing import Any, Protocol, TypeVar

from sqlalchemy import Engine

from celeryflows.clock import Clock
from celeryflows.errors import StoreError, StoreUnavailable
from celeryflows.store import kept_plans
from celeryflows.store.audit import Audit
from celeryflows.store.batches import Batches
from celeryflows.store.bounds import Bounds
from celeryflows.store.branches import Branches
from celeryflows.store.bundles import Bundles
from celeryflows.store.calls import Calls
from celeryflows.store.cancels import Cancels
from celeryflows.store.crons import Crons
from celeryflows.store.debounces import Debounces
from celeryflows.store.dialect import Dialect, of_arrays
from celeryflows.store.dues import Dues
from celeryflows.store.entries import Entries
from celeryflows.store.events import Events
from celeryflows.store.executor import Row
from celeryflows.store.exits import Exits
from celeryflows.store.figures import Figures
from celeryflows.store.flows import Flows
from celeryflows.store.gate_audit import GateAudit
from celeryflows.store.gates import Gates
from celeryflows.store.groups import Groups
from celeryflows.store.hearings import Hearings
from celeryflows.store.keys import Keys
from celeryflows.store.limit_uses import LimitUses
from celeryflows.store.links import Links
from celeryflows.store.locks import Locks
from celeryflows.store.messages import Messages
from celeryflows.store.meters import Meters
from celeryflows.store.once import Once
from celeryflows.store.passing import Passing
from celeryflows.store.prepared import Prepared, prepared_of
from celeryflows.store.replays import Replays
from celeryflows.store.reruns import Reruns
from celeryflows.store.retention import Retention
from celeryflows.store.runs import Claim, Runs
from celeryflows.store.sealing import Sealer, opened_rows, payload_columns, sealed_params
from celeryflows.store.signals import Signals
from celeryflows.store.singletons import Singletons
from celeryflows.store.standings import Standings
from celeryflows.store.steps import Steps
from celeryflows.store.tasks import Tasks
from celeryflows.store.throttles import Throttles
from celeryflows.store.totals import Totals
from celeryflows.store.waits import Waits
from celeryflows.store.windows import Windows
from celeryflows.store.workers import Workers

T = TypeVar("T")
TRIES = 12
UNPREPARED = (
    ". Is there a pooler between, such as PgBouncer, that hands out connections by transaction? Then put "
    "?prepare_threshold=none behind flows_store_url."
)

# The store whose `step.transaction` the calling code runs in.
writing: ContextVar["Backing | None"] = ContextVar("celeryflows_writing", default=None)


class Backing(Protocol):
    """What a connection needs of its store."""

    dialect: Dialect
    clock: Clock
    compiled: dict[str, str]
    observer: Callable[[str], None] | None
    patience: float
    guard: Any
    sealer: Sealer | None
    payload_columns: dict[str, tuple[int, ...]]
    in_memory: bool
    held_here: Callable[[], bool] | None

    @property
    def engine(self) -> Engine: ...
    def shown_url(self) -> str: ...


class TransientError(StoreError):
    """Deadlock, serialization failure or a busy file: try the whole transaction again."""


class Connection:
    """One pooled connection. Verbs hang on it by subject: `connection.runs.claim(...)`."""

    def __init__(self, store: Backing) -> None:
        self.store = store
        self.dialect = store.dialect
        self.sealer = store.sealer
        self._raw: Any = None
        self._cursor: Any = None
        self._prepared: Prepared | None = None
        # The transaction begins with its first statement: a round trip less where that is a lock.
        self._begins = False

    runs = cached_property(Runs)
    branches = cached_property(Branches)
    bundles = cached_property(Bundles)
    passing = cached_property(Passing)
    groups = cached_property(Groups)
    gates = cached_property(Gates)
    gate_audit = cached_property(GateAudit)
    entries = cached_property(Entries)
    exits = cached_property(Exits)
    standings = cached_property(Standings)
    throttles = cached_property(Throttles)
    events = cached_property(Events)
    steps = cached_property(Steps)
    waits = cached_property(Waits)
    calls = cached_property(Calls)
    tasks = cached_property(Tasks)
    cancels = cached_property(Cancels)
    bounds = cached_property(Bounds)
    once = cached_property(Once)
    meters = cached_property(Meters)
    debounces = cached_property(Debounces)
    dues = cached_property(Dues)
    batches = cached_property(Batches)
    windows = cached_property(Windows)
    singletons = cached_property(Singletons)
    flows = cached_property(Flows)
    crons = cached_property(Crons)
    workers = cached_property(Workers)
    locks = cached_property(Locks)
    messages = cached_property(Messages)
    retention = cached_property(Retention)
    reruns = cached_property(Reruns)
    replays = cached_property(Replays)
    links = cached_property(Links)
    signals = cached_property(Signals)
    keys = cached_property(Keys)
    audit = cached_property(Audit)
    figures = cached_property(Figures)
    limit_uses = cached_property(LimitUses)
    totals = cached_property(Totals)
    hearings = cached_property(Hearings)

    def unit(self, claim: Claim) -> Runs | Branches:
        """The verbs of what the claim is a turn of: the run itself, or one of its branches."""
        return self.branches if claim.path else self.runs

    def execute(self, sql: str, **params: Any) -> list[Row]:
        """Run one statement and return its rows, [] for one without. In no transaction it is its own commit."""
        with self.store.guard:
            return self._run("execute", sql, params)

    def execute_hot(self, sql: str, **params: Any) -> list[Row]:
        """As `execute`, for the few statements that every turn runs: the shortest way that the driver has. The type of
        each parameter follows from where it stands, at a column or in a cast."""
        with self.store.guard:
            return self._run("hot", sql, params)

    def many(self, sql: str, rows: Sequence[Mapping[str, Any]], numbers: frozenset[str] | None = None) -> None:
        """Run one statement for each row of parameters. `numbers`: which of an insert's parameters are numbers, the
        others are texts; where the database takes arrays all rows go in one statement then."""
        if not rows:
            return
        with self.store.guard:
            if numbers is None or not self.dialect.takes_arrays:
                self._run("executemany", sql, [dict(row) for row in rows])
                return
            given = rows if self.sealer is None else [sealed_params(self.sealer, row) for row in rows]
            columns = {name: [row[name] for row in given] for name in rows[0]}
            self._run("arrays", of_arrays(sql, tuple(columns), numbers), columns)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction; SQLite takes its write lock at once. Never held while user code runs or a message is sent."""
        if self.dialect.has_one_writer and writing.get() is self.store:
            with self._within_the_users():
                yield
            return
        with self.store.guard:
            self._begin()
            try:
                yield
                self._end("COMMIT")
            except BaseException:
                # Also a commit that was refused: SQLite leaves its transaction open then.
                self._undo()
                raise

    def _begin(self) -> None:
        if self.dialect.has_one_writer:
            self._check_free()
            self._command(self.dialect.begin)
        else:
            self._begins = True

    def _check_free(self) -> None:
        if self.store.held_here is not None and self.store.held_here():
            raise StoreError(
                f"The store {self.store.shown_url()} has one writer, and the transaction that is open here is at it. "
                "Send and call inside it as you like; do this behind it, by on_commit."
            )

    def _begin_owed(self) -> None:
        if self._begins:
            self._begins = False
            self._command(self.dialect.begin)

    def _end(self, word: str) -> None:
        """A transaction that began nothing has nothing to end."""
        begun, self._begins = not self._begins, False
        if begun:
            self._command(word)

    def _undo(self) -> None:
        """What was begun; a link that is gone took it along."""
        begun, self._begins = not self._begins, False
        if begun and self._cursor is not None:
            with suppress(StoreError):
                self._command("ROLLBACK")

    def lock(self, sql: str) -> None:
        """Run a statement without parameters or rows, in one round trip with the transaction's begin if it is the
        first; what comes after is a statement of its own, and sees what was committed before the lock was granted."""
        with self.store.guard:
            begin = f"{self.dialect.begin}; " if self._begins else ""
            self._begins = False
            self._command(begin + sql)

    def back_to(self, savepoint: str) -> None:
        """Undo what was done since, and give back the locks that were taken."""
        with self.store.guard:
            self._command(f"ROLLBACK TO SAVEPOINT {savepoint}")

    @contextmanager
    def _within_the_users(self) -> Iterator[None]:
        """A transaction asked for inside `step.transaction`, where there is one writer: in memory, a part of it."""
        if not self.store.in_memory:
            raise StoreError(
                f"The store {self.store.shown_url()} has one writer, and step.transaction is at it: nothing else can "
                "be written inside. Send with flows.send(..., transaction=connection), or after the step."
            )
        self._command("SAVEPOINT celeryflows")
        try:
            yield
        except BaseException:
            self._command("ROLLBACK TO celeryflows")
            raise
        finally:
            self._command("RELEASE celeryflows")

    def transact(self, work: Callable[["Connection"], T]) -> T:
        """Run `work` in a transaction, again after a deadlock or an outage: its writes must be repeatable."""

        def whole() -> T:
            with self.transaction():
                return work(self)

        return self.repeat(whole)

    def repeat(self, call: Callable[[], T]) -> T:
        """Call until it goes through: a few times for conflicts, for the store's patience after an outage."""
        until = time.monotonic() + self.store.patience
        conflicts = outages = 0
        while True:
            try:
                return call()
            except TransientError:
                conflicts += 1
                if conflicts == TRIES:
                    raise
                time.sleep(random.random() * 0.005 * 2 ** min(conflicts, 6))
            except StoreUnavailable:
                self._drop()
                if time.monotonic() > until:
                    raise
                time.sleep(min(0.05 * 2 ** min(outages, 4), 0.5))
                outages += 1

    def now(self) -> int:
        """The store's clock, in microseconds."""
        if self.dialect.binds_now:
            return self.store.clock.now()
        return int(self.execute("SELECT {now}")[0][0])

    def close(self) -> None:
        """Give the connection back to the pool."""
        raw, self._raw, self._cursor = self._raw, None, None
        if raw is not None:
            raw.close()

    def _run(self, how: str, sql: str, params: Any) -> list[Row]:
        self._begin_owed()
        store = self.store
        text = store.compiled.get(sql)
        if text is None:
            text = store.compiled.setdefault(sql, self.dialect.compile(sql))
        if self.sealer is not None:
            params = _sealed(self.sealer, params)
        if self.dialect.binds_now:
            now = store.clock.now()
            for row in params if how == "executemany" else (params,):
                row.setdefault("now", now)
        if store.observer is not None:
            store.observer(text)
        try:
            return self._asked(how, text, params)
        except StoreError:
            raise
        except Exception as error:
            raise self._translated(error) from error

    def _asked(self, how: str, text: str, params: Any) -> list[Row]:
        cursor = self._cursor or self._open()
        rows: list[Row]
        if how == "hot" and self._prepared is not None and self._prepared.is_idle:
            rows = self._prepared.run(text, params)
            return rows if self.sealer is None else self._opened(self.sealer, text, rows, self._prepared.columns(text))
        if how == "arrays":
            params = {n: self.dialect.array(v) if isinstance(v, list) else v for n, v in params.items()}
        getattr(cursor, "executemany" if how == "executemany" else "execute")(text, params)
        if how == "executemany" or not self.dialect.has_rows(cursor):
            return []
        rows = cursor.fetchall()
        if self.sealer is None:
            return rows
        return self._opened(self.sealer, text, rows, [column[0] for column in cursor.description])

    def _opened(self, sealer: Sealer, text: str, rows: list[Row], names: Sequence[str]) -> list[Row]:
        columns = self.store.payload_columns.get(text)
        if columns is None:
            columns = self.store.payload_columns[text] = payload_columns(names)
        return opened_rows(sealer, rows, columns)

    def _command(self, sql: str) -> None:
        if self.store.observer is not None:
            self.store.observer(sql)
        try:
            cursor = self._cursor or self._open()
            if self._prepared is not None and sql.startswith("ROLLBACK"):
                self._prepared.roll_back(sql)
            else:
                self.dialect.command(cursor, sql)
        except StoreError:
            raise
        except Exception as error:
            raise self._translated(error) from error

    def _open(self) -> Any:
        try:
            self._raw = self.store.engine.raw_connection()
        except Exception as error:
            raise self._translated(error) from error
        self._cursor = self.dialect.cursor(self._raw.cursor())
        self._prepared = prepared_of(self._raw)
        if kept_plans.are_old(self._raw):
            self._command(kept_plans.DISCARD)
        return self._cursor

    def _drop(self) -> None:
        raw, self._raw, self._cursor = self._raw, None, None
        if raw is not None:
            with suppress(Exception):
                raw.invalidate()
                raw.close()

    def _translated(self, error: Exception) -> Exception:
        engine = self.store.engine
        cause = getattr(error, "orig", None) or error
        if not isinstance(cause, engine.dialect.loaded_dbapi.Error):
            return error
        if self.dialect.is_transient(cause):
            return TransientError(f"the store is busy: {cause}")
        gone = self._raw is None or engine.dialect.is_disconnect(cause, self._raw.dbapi_connection, self._cursor)
        # What is in memory has no other place to go on in.
        if gone or (self.dialect.is_outage(cause) and not self.store.in_memory):
            self._drop()
            return StoreUnavailable(
                f"The store {self.store.shown_url()} does not answer ({str(cause).strip().splitlines()[0]}). "
                "Is its server up, and flows_store_url right? What was accepted is kept."
            )
        hint = UNPREPARED if getattr(cause, "sqlstate", None) in ("26000", "42P05") else ""
        return StoreError(f"The store {self.store.shown_url()} refused a statement: {cause}{hint}")


def _sealed(sealer: Sealer, params: Any) -> Any:
    """The parameters of one row or of many."""
    if isinstance(params, dict):
        return sealed_params(sealer, params)
    return [sealed_params(sealer, row) for row in params]
