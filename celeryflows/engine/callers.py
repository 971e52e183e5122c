"""The transactions of those who call us, where their framework keeps them: what the engine asks of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.user_transaction import Transaction


class CallersTransaction(Protocol):
    """A transaction that is open around a send or a call."""

    @property
    def is_on_the_store(self) -> bool:
        """True when what is sent can be written in it; else it can only wait for the commit."""
        ...

    @property
    def has_begun(self) -> bool:
        """False where the caller commits by hand and has asked nothing yet."""
        ...

    @property
    def is_block(self) -> bool:
        """True for one that code opens and closes around something, such as `atomic()`."""
        ...

    def verbs(self) -> AbstractContextManager[Connection]:
        """Our verbs within it."""
        ...

    def after_commit(self, call: Callable[[], object]) -> None:
        """Call this once it is committed, and never when it is rolled back."""
        ...


class Callers(Protocol):
    """Where the framework keeps them."""

    def open_here(self, store: Store) -> CallersTransaction | None:
        """What is open around the calling code, None when nothing is."""
        ...

    def step_transaction(self, store: Store) -> Transaction | None:
        """A new one for `step.transaction`, begun; None when the store's own is to be taken."""
        ...


def is_held(store: Store, callers: Callers | None) -> bool:
    """True where the calling code is in a transaction of its own on the store's database."""
    around = callers.open_here(store) if callers is not None else None
    return around is not None and around.is_on_the_store and around.has_begun
