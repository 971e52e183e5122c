"""The outbox: events written by the caller's own SQLAlchemy connection or session, routed after its commit."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, event, insert
from sqlalchemy.orm import Session

from celeryflows.errors import ConfigurationError
from celeryflows.model.events import StoredEvent
from celeryflows.store.schema import events

logger = logging.getLogger("celeryflows")


def write_outbox(
    transaction: Any, stored: Sequence[StoredEvent], *, now: int, after_commit: Callable[[], None]
) -> None:
    """Insert the events as not routed yet. A Session routes them right after its commit; a Connection leaves it to
    the workers, for SQLAlchemy tells of a Connection's commit before it happens.

    Raises ConfigurationError for anything but a SQLAlchemy Connection or Session on the store's database.
    """
    rows = [
        {
            "id": one.id,
            "ext_id": one.ext_id,
            "name": one.name,
            "data": one.text,
            "ts": one.ts,
            "v": one.v,
            "stored_at": now,
        }
        for one in stored
    ]
    if isinstance(transaction, Session):
        transaction.execute(insert(events), rows)
        _after_commit(transaction, after_commit)
    elif isinstance(transaction, Connection):
        transaction.execute(insert(events), rows)
    else:
        raise ConfigurationError(
            f"send(transaction=...) takes a SQLAlchemy Connection or Session on the store's database, got "
            f"{type(transaction).__name__}"
        )


def _after_commit(session: Session, call: Callable[[], None]) -> None:
    def committed(_session: Session) -> None:
        forget()
        try:
            call()
        except Exception:
            # The events are committed: the workers route what this process could not.
            logger.warning("events of a committed session are left to the workers to route", exc_info=True)

    def rolled_back(_session: Session, _previous: object) -> None:
        forget()

    def forget() -> None:
        for name, listener in (("after_commit", committed), ("after_soft_rollback", rolled_back)):
            if event.contains(session, name, listener):
                event.remove(session, name, listener)

    event.listen(session, "after_commit", committed)
    event.listen(session, "after_soft_rollback", rolled_back)
