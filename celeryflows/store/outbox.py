"""The outbox: events written by the caller's own SQLAlchemy connection or session, routed after its commit."""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, event, insert, inspect, literal_column, select

from celeryflows.errors import ConfigurationError
from celeryflows.model.events import StoredEvent
from celeryflows.store.database import Store
from celeryflows.store.events import event_row
from celeryflows.store.schema import events, meta
from celeryflows.store.sealing import sealed_params

logger = logging.getLogger("celeryflows")

PENDING = "celeryflows_outbox"
_checked: "WeakKeyDictionary[Engine, str]" = WeakKeyDictionary()


def write_outbox(
    store: Store,
    transaction: Any,
    stored: Sequence[StoredEvent],
    *,
    after_commit: Callable[[], object],
    instead: Callable[[], object],
) -> None:
    """Insert the events as not routed yet. A Session routes them right after its commit; a Connection leaves it to
    the workers, for SQLAlchemy tells of a Connection's commit before it happens.

    Beside a store in memory, that of a test, nothing can be written: `instead` is called at the commit.
    Raises ConfigurationError for anything but a SQLAlchemy Connection or Session on the store's database.
    """
    if _is_of_orm(transaction, "scoped_session"):
        transaction = transaction()
    is_session = _is_of_orm(transaction, "Session")
    if not is_session and not isinstance(transaction, Connection):
        raise ConfigurationError(
            f"send(transaction=...) takes a SQLAlchemy Connection or Session on the store's database, got "
            f"{type(transaction).__name__}"
        )
    statement = insert(events).values(stored_at=_now(store))
    connection = transaction.connection(bind_arguments={"clause": statement}) if is_session else transaction
    if store.in_memory and connection.engine is not store.engine:
        return _at_commit(transaction if is_session else None, connection, instead)
    _check_database(store, connection)
    connection.execute(statement, [_row(store, one) for one in stored])
    if is_session:
        _after_commit(transaction, connection, after_commit)
    return None


def _is_of_orm(value: Any, name: str) -> bool:
    """Who has a Session has loaded the ORM; nobody else pays for it."""
    orm = sys.modules.get("sqlalchemy.orm")
    return orm is not None and isinstance(value, getattr(orm, name))


def _now(store: Store) -> Any:
    """The store's clock: the sender's own may go wrong, and recovery would wait for it."""
    return store.clock.now() if store.dialect.binds_now else literal_column(store.dialect.compile("{now}"))


def _row(store: Store, one: StoredEvent) -> dict[str, Any]:
    row = event_row(one)
    del row["piece"]
    return row if store.sealer is None else sealed_params(store.sealer, row)


def _check_database(store: Store, connection: Connection) -> None:
    """Events written elsewhere would never be found: the store's identity must be there. Looked up once an engine."""
    engine = connection.engine
    if _checked.get(engine) == store.shown_url():
        return
    with store.connection() as own:
        identity = own.flows.fact("identity")
    there = inspect(connection).has_table(meta.name)
    if not there or connection.scalar(select(meta.c.value).where(meta.c.key == "identity")) != identity:
        raise ConfigurationError(
            f"send(transaction=...): {engine.url.render_as_string()} is not the store's database, which is "
            f"{store.shown_url()}. Send without transaction= after your commit, or keep the store in that database."
        )
    _checked[engine] = store.shown_url()


def _at_commit(session: Any, connection: Connection, call: Callable[[], object]) -> None:
    if session is not None:
        return _after_commit(session, connection, call)
    pending = [call]

    def committed(_: Connection) -> None:
        while pending:
            pending.pop()()

    event.listen(connection, "commit", committed)
    event.listen(connection, "rollback", lambda _: pending.clear())
    return None


def _after_commit(session: Any, connection: Connection, call: Callable[[], object]) -> None:
    pending: list[tuple[Connection, Callable[[], object]]] | None = session.info.get(PENDING)
    if pending is None:
        pending = session.info[PENDING] = []
        event.listen(session, "after_commit", _committed)
        event.listen(session, "after_transaction_end", _ended)
    pending.append((connection, call))


def _committed(session: Any) -> None:
    pending = session.info[PENDING]
    # A savepoint's release is told as a commit too, and a session may live inside somebody's longer transaction.
    done = [one for one in pending if not one[0].in_transaction()]
    pending[:] = [one for one in pending if one not in done]
    for _, call in done:
        try:
            call()
        except Exception:
            # The events are committed: the workers route what this process could not.
            logger.warning("events of a committed session are left to the workers to route", exc_info=True)


def _ended(session: Any, transaction: Any) -> None:
    """Rolled back, closed, or committed within a longer transaction: what is committed later, the workers find."""
    if transaction.parent is None:
        session.info[PENDING].clear()
