"""The audit: who did what, by which door, to which run or flow, and what came of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from celeryflows.console.pages import Page, page_of
from celeryflows.durations import to_datetime
from celeryflows.engine.runtime import Runtime
from celeryflows.ids import new_id
from celeryflows.store.reports.audit import list_audit

DONE = "done"
LONGEST = {"who": 256, "action": 64, "subject": 512, "outcome": 256}


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action. `outcome`: done, what refused it, or "begun" of one whose process died in the middle."""

    id: str
    at: datetime
    who: str
    via: str
    action: str
    subject: str
    outcome: str


def audit(runtime: Runtime, *, who: str | None = None, limit: int = 50, cursor: str | None = None) -> Page[AuditEntry]:
    """What was done, the newest first; `who`: by this one alone."""
    rows = list_audit(runtime.store, who=who, limit=limit + 1, cursor=cursor)
    return page_of(
        rows,
        limit,
        lambda row: AuditEntry(row.id, to_datetime(row.at), row.who, row.via, row.action, row.subject, row.outcome),
    )


def begin(runtime: Runtime, *, who: str, via: str, action: str, subject: str) -> str:
    """Write down that somebody is about to do something; the entry's id, for `end`."""
    entry = new_id()
    with runtime.store.connection() as connection:
        connection.audit.begin(entry, _cut("who", who), via, _cut("action", action), _cut("subject", subject))
    return entry


def end(runtime: Runtime, entry: str, outcome: str) -> None:
    """Write down what came of it."""
    with runtime.store.connection() as connection:
        connection.audit.end(entry, _cut("outcome", outcome))


@contextmanager
def audited(runtime: Runtime, *, who: str, via: str, action: str, subject: str) -> Iterator[None]:
    """Write down what the block does before it is done, and what came of it."""
    entry = begin(runtime, who=who, via=via, action=action, subject=subject)
    try:
        yield
    except BaseException as error:
        end(runtime, entry, f"refused: {type(error).__name__}")
        raise
    end(runtime, entry, DONE)


def count(runtime: Runtime, name: str) -> None:
    """One more of what is counted, such as calls of a hook that were refused."""
    with runtime.store.connection() as connection:
        connection.audit.count(name)


def counts(runtime: Runtime) -> dict[str, int]:
    """How many of each were counted."""
    with runtime.store.connection() as connection:
        return connection.audit.counts()


def _cut(name: str, text: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown[: LONGEST[name]]
