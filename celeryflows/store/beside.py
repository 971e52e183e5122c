"""A database of the user's beside a store in memory, as tests have it: where `step.transaction` writes then."""

from contextlib import suppress
from typing import Any

from sqlalchemy import Engine

from celeryflows.errors import ConfigurationError, StepMisuse
from celeryflows.store.database import Store
from celeryflows.store.user_transaction import Transaction, UserTransaction


class TransactionBeside(UserTransaction):
    """Two transactions that are committed one right after the other, which is enough where nothing is killed."""

    def __init__(self, store: Store, engine: Engine) -> None:
        super().__init__(store)
        try:
            self.given = engine.connect()
            self._theirs = self.given.begin()
        except BaseException:
            super().end()
            raise

    def check_whole(self, key: str) -> None:
        """As on the store's own."""
        super().check_whole(key)
        if self.given.closed or self.given.get_transaction() is not self._theirs or not self._theirs.is_active:
            raise StepMisuse(f"the function of step {key!r} ended its transaction itself; leave the commit to the step")

    def commit(self) -> None:
        """Both."""
        super().commit()
        self._theirs.commit()

    def end(self) -> None:
        """Both."""
        try:
            with suppress(Exception):
                self._theirs.rollback()
            self.given.close()
        finally:
            super().end()


class CallersBeside:
    """For an engine of flows whose store is in memory: connections of the user's own database."""

    def __init__(self, engine: Any) -> None:
        if not isinstance(engine, Engine):
            raise ConfigurationError(f"FlowsTester(engine=...) takes a SQLAlchemy Engine, got {type(engine).__name__}")
        self._engine = engine

    def open_here(self, store: Store) -> None:
        """What is sent goes at once."""

    def step_transaction(self, store: Store) -> Transaction | None:
        """On the user's database."""
        return TransactionBeside(store, self._engine)
