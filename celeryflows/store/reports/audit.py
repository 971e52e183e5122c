"""The audit as pages and terminals show it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select

from celeryflows.store.database import Store
from celeryflows.store.reports.reading import read
from celeryflows.store.schema import audit


@dataclass(frozen=True, slots=True)
class AuditView:
    """An entry; `at` in microseconds."""

    id: str
    at: int
    who: str
    via: str
    action: str
    subject: str
    outcome: str


COLUMNS = [audit.c[name] for name in AuditView.__dataclass_fields__]


def list_audit(store: Store, *, who: str | None, limit: int, cursor: str | None) -> list[AuditView]:
    """Entries, the newest first."""
    query: Select[Any] = select(*COLUMNS).order_by(audit.c.id.desc()).limit(limit)
    if who is not None:
        query = query.where(audit.c.who == who)
    if cursor is not None:
        query = query.where(audit.c.id < cursor)
    return [AuditView(*row) for row in read(store, query)]
