"""A run as it was recorded: its event and what it remembers. One line of JSON each, so that it can leave the store."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from celeryflows.codec import loads
from celeryflows.durations import parse_moment, to_datetime
from celeryflows.errors import FlowsError
from celeryflows.model.events import StoredEvent
from celeryflows.model.steps import Memo

FORMAT = "celeryflows-history/1"
MOMENTS = ("created_at", "started_at", "ended_at", "wake_at", "began", "due_at", "ts", "arrived_at", "armed_at")
TEXTS = ("value", "output", "error", "input", "data")


@dataclass(frozen=True, slots=True)
class BranchHistory:
    """How a branch stood: its path, its place in its group, its value or error."""

    path: str
    idx: int
    status: str
    value: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class GroupHistory:
    """How a group of branches stood."""

    state: str
    winner: int | None
    branches: tuple[BranchHistory, ...]


@dataclass(frozen=True, slots=True)
class History:
    """What a replay of the handler needs of a run. Times in microseconds; `until` is how far its time went.

    `places` names the branch of each memo that belongs to one; `events` are all of a run that a batch made.
    """

    run_id: str
    flow: str
    version: str | None
    status: str
    attempt: int
    started_at: int
    until: int
    output: str | None
    error: str | None
    event: StoredEvent
    memos: Mapping[str, Memo]
    places: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, GroupHistory] = field(default_factory=dict)
    events: tuple[StoredEvent, ...] = ()

    def memos_of(self, branches: Collection[str]) -> dict[str, Memo]:
        """What the run's main line remembers, and these branches."""
        return {key: memo for key, memo in self.memos.items() if key not in self.places or self.places[key] in branches}


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the store as JSON has it: moments as ISO text in UTC, stored JSON as itself.

    Stored JSON that is not there is left out: null is a value.
    """
    return {name: _plain(name, value) for name, value in row.items() if value is not None or name not in TEXTS}


def _plain(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in MOMENTS:
        return to_datetime(value).isoformat(timespec="microseconds")
    return json.loads(value) if name in TEXTS else value


def line_of(record: Mapping[str, Any]) -> str:
    """One line of an export."""
    return json.dumps({"format": FORMAT, **record}, ensure_ascii=False, separators=(",", ":"))


def read_line(line: str, now: int) -> History:
    """The history of an exported line; an open run is taken as it stands `now`. Raises FlowsError for another line."""
    try:
        record = json.loads(line)
        if record["format"] != FORMAT:
            raise FlowsError(f"a line of format {record['format']!r:.60}; this celeryflows reads {FORMAT!r}")
        return read_record(record, now)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FlowsError(f"no line of a history export ({type(error).__name__}: {error}): {line[:60]!r}") from None


def read_record(record: Mapping[str, Any], now: int) -> History:
    """The history of an exported run."""
    run = record["run"]
    ended = _moment(run["ended_at"])
    memos = [_memo(step) for step in record["steps"]]
    return History(
        run_id=run["id"],
        flow=run["flow"],
        version=run["version"],
        status=run["status"],
        attempt=run["attempt"],
        started_at=_moment(run["started_at"]) or _moment(run["created_at"]) or now,
        until=now if ended is None else ended,
        output=_text(run, "output"),
        error=_text(run, "error"),
        event=_event(record["event"]),
        memos={memo.key: memo for memo in memos},
        places={step["id"]: step["branch"] for step in record["steps"] if step["branch"]},
        groups={group["path"]: _group(group) for group in record.get("groups", ())},
        events=tuple(_event(event) for event in record.get("events", ())),
    )


def _group(group: Mapping[str, Any]) -> GroupHistory:
    branches = tuple(
        BranchHistory(branch["path"], branch["idx"], branch["status"], _text(branch, "value"), _text(branch, "error"))
        for branch in group["branches"]
    )
    return GroupHistory(group["state"], group["winner"], branches)


def _memo(step: Mapping[str, Any]) -> Memo:
    memo = Memo(
        key=step["id"],
        kind=step["kind"],
        state=step["state"],
        attempts=step["attempts"],
        value=_text(step, "value"),
        began=_moment(step["began"]) or 0,
        turn=step["turn"],
        due_at=_moment(step["due_at"]),
    )
    wait = step["wait"]
    if wait is None:
        return memo
    event = wait["event"]
    settled = _moment(event["arrived_at"]) if event else _moment(wait["due_at"]) if wait["state"] == "expired" else None
    came = _event(event) if event else None
    return replace(memo, wait=wait["state"], event=came, settled_at=settled, awaits=wait["name"])


def _event(event: Mapping[str, Any]) -> StoredEvent:
    text = _text(event, "data") or "{}"
    return StoredEvent(
        event["id"], event["key"], event["name"], text, loads(text), _moment(event["ts"]) or 0, event["v"]
    )


def _moment(text: str | None) -> int | None:
    return None if text is None else parse_moment(text)


def _text(row: Mapping[str, Any], name: str) -> str | None:
    return json.dumps(row[name], ensure_ascii=False, separators=(",", ":")) if name in row else None
