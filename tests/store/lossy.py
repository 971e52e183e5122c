"""A store whose link breaks at a chosen commit: before it, right after it, or while the server is still at it;
or before any one statement, a read as well. Or in whose place the database finds a conflict there."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from celeryflows.clock import Clock
from celeryflows.errors import StoreUnavailable
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.executor import Row

Break = Literal["before", "after", "during", "statement", "conflict"]
# Long enough for the retry to meet the locks of the commit that is still under way.
LATE = 0.08
# The server itself is made to say so: it ends the transaction then.
DEADLOCK = {
    "postgresql": "DO $$ BEGIN RAISE EXCEPTION 'planted' USING ERRCODE = 'deadlock_detected'; END $$",
    "mariadb": "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'planted'",
}


class LossyStore(Store):
    """Counts its commits; the one numbered `at` (from 0) meets the broken link."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        super().__init__(url, clock=clock)
        self.commits: list[str] = []
        self.statements: list[str] = []
        self.at = -1
        self.again_every = 0
        self.link: Break = "after"
        self.late: list[threading.Timer] = []

    def break_link(self, link: Break, at: int) -> None:
        """From now on count anew, and break the link at that commit."""
        self.commits, self.statements, self.link, self.at = [], [], link, at

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection over the link."""
        connection = LossyConnection(self)
        try:
            yield connection
        finally:
            connection.close()

    def dispose(self) -> None:
        """Close, once no commit is under way any more."""
        for timer in self.late:
            timer.join(10)
        super().dispose()


class LossyConnection(Connection):
    """What it hears of the chosen commit is an outage."""

    store: LossyStore
    _inside = False

    def _command(self, sql: str) -> None:
        self._meet(sql)
        if sql != "COMMIT":
            super()._command(sql)
            self._inside = sql.startswith(("BEGIN", "START")) or (self._inside and sql != "ROLLBACK")
            return
        self._inside = False
        with self._broken(sql) as link:
            if link == "during":
                self._commit_late()
            elif link != "before":
                super()._command(sql)

    def _run(self, how: str, sql: str, params: Any) -> list[Row]:
        self._begin_owed()
        self._meet(sql)
        if self._inside or not sql.lstrip().startswith(("INSERT", "UPDATE", "DELETE", "WITH")):
            return super()._run(how, sql, params)
        rows: list[Row] = []
        with self._broken(sql) as link:
            if link == "during":
                super()._command(self.dialect.begin)
            if link != "before":
                rows = super()._run(how, sql, params)
            if link == "during":
                self._commit_late()
        return rows

    def _meet(self, sql: str) -> None:
        self.store.statements.append(sql)
        since = len(self.store.statements) - self.store.at - 1
        is_next = self.store.again_every and since > 0 and since % self.store.again_every == 0
        if self.store.link in ("statement", "conflict") and self.store.at >= 0 and (since == 0 or is_next):
            (self._break if self.store.link == "statement" else self._collide)(sql)

    @contextmanager
    def _broken(self, sql: str) -> Iterator[Break | None]:
        self.store.commits.append(sql)
        chosen = self.store.link not in ("statement", "conflict") and len(self.store.commits) == self.store.at + 1
        yield self.store.link if chosen else None
        if chosen:
            self._break(sql)

    def _break(self, sql: str) -> None:
        self._drop()
        raise StoreUnavailable(f"the link broke {self.store.link}: {sql.strip()[:60]}")

    def _collide(self, sql: str) -> None:
        if self.dialect.has_one_writer:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise self._translated(error) from error
        try:
            super()._command(DEADLOCK[self.dialect.name])
        finally:
            if sql == "COMMIT":
                super()._command("ROLLBACK")

    def _commit_late(self) -> None:
        raw, cursor, self._raw, self._cursor = self._raw, self._cursor, None, None

        def commit() -> None:
            cursor.execute("COMMIT")
            raw.close()

        timer = threading.Timer(LATE, commit)
        self.store.late.append(timer)
        timer.start()
