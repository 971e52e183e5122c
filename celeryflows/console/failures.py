"""Failures on the desk: runs that failed for the same reason, in the same step of the same flow, as one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

from celeryflows.console.pages import moment
from celeryflows.durations import parse_moment
from celeryflows.engine.bulk import Moment
from celeryflows.engine.failures import read_failure
from celeryflows.engine.runtime import Runtime
from celeryflows.model.steps import Failure
from celeryflows.store.reports.failures import FailedRun, failed_runs

# So many failed runs are looked at, the newest ones.
LOOK = 1_000
# What differs from one occurrence of an error to the next: quoted text, ids, numbers.
_OWN = re.compile(r"'[^']*'|\"[^\"]*\"|\b[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}\b|\b\w*\d[\w.:-]*")


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Runs that failed alike. `error` is the newest one's, with its traceback; `latest` the newest run."""

    fingerprint: str
    flow: str
    step: str | None
    error: Failure
    count: int
    first_at: datetime | None
    last_at: datetime | None
    latest: str


@dataclass(frozen=True, slots=True)
class Failures:
    """The groups, the largest first; `looked` runs were looked at, and `more` failed before them."""

    groups: tuple[FailureGroup, ...]
    looked: int
    more: bool


def failures(runtime: Runtime, *, flow: str | None = None, after: Moment | None = None) -> Failures:
    """The newest failures of a flow or of all, of runs made from `after` on, grouped."""
    since = None if after is None else parse_moment(after, "after")
    rows = failed_runs(runtime.store, flow, since, LOOK + 1)
    groups: dict[tuple[str, str], list[tuple[FailedRun, Failure]]] = {}
    for row in rows[:LOOK]:
        error = read_failure(row.error)
        groups.setdefault((row.flow, fingerprint(error)), []).append((row, error))
    found = [_group(of_flow, mark, runs) for (of_flow, mark), runs in groups.items()]
    found.sort(key=lambda group: (-group.count, group.flow, group.fingerprint))
    return Failures(tuple(found), len(rows[:LOOK]), len(rows) > LOOK)


def fingerprint(error: Failure) -> str:
    """The same for errors of one kind in one step: what is an occurrence's own is left out of the message."""
    words = _OWN.sub("…", error.message.splitlines()[0] if error.message else "")
    parts = "\0".join((error.step_id or "", error.name, words))
    return blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()


def _group(flow: str, mark: str, runs: Sequence[tuple[FailedRun, Failure]]) -> FailureGroup:
    newest, error = runs[0]
    ends = [row.ended_at for row, _ in runs if row.ended_at is not None]
    return FailureGroup(
        fingerprint=mark,
        flow=flow,
        step=error.step_id,
        error=error,
        count=len(runs),
        first_at=moment(min(ends, default=None)),
        last_at=moment(max(ends, default=None)),
        latest=newest.id,
    )
