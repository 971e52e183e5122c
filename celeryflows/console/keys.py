"""Keys of the HTTP doors: made, changed and revoked here, shown once, kept as hashes, compared in constant time."""

import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from celeryflows.console.audit import audited
from celeryflows.console.pages import moment
from celeryflows.durations import parse_duration, to_datetime
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import FlowsError, StoreUnavailable
from celeryflows.ids import new_id
from celeryflows.settings.doors import ACT, LOOK, ROLES, DoorSettings, hashed
from celeryflows.store.keys import KeyRow

EVENT, API = "event", "api"
KINDS = (EVENT, API)
# How long a process may not know of a change.
FRESH_SECONDS = 2.0
NAME_BOUND = 100


class KeyRefused(FlowsError, ValueError):
    """A key that cannot be made or is not there."""


@dataclass(frozen=True, slots=True)
class KeySummary:
    """A key for a list: never the key itself. `ends_at` None: until it is revoked."""

    id: str
    kind: str
    name: str
    role: str | None
    created_at: datetime
    ends_at: datetime | None
    good: bool


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made. `secret` is told now and never again."""

    id: str
    secret: str = field(repr=False)


def keys(runtime: Runtime) -> list[KeySummary]:
    """Every key of the store, the oldest first."""
    with runtime.store.connection() as connection:
        rows, now = connection.keys.all(), connection.now()
    return [_summary(row, now) for row in rows]


def create_key(
    runtime: Runtime, name: str, *, kind: str = EVENT, role: str | None = None, who: str, via: str = "terminal"
) -> NewKey:
    """Make a key: `event` keys send, `api` keys look or act. Raises KeyRefused."""
    if kind not in KINDS:
        raise KeyRefused(f"A key is of kind {' or '.join(KINDS)}, not {kind!r}.")
    if not name.strip() or len(name) > NAME_BOUND or not name.isprintable():
        raise KeyRefused(f"A key's name is a printable text of 1 to {NAME_BOUND} characters.")
    role = (role or LOOK) if kind == API else None
    if role is not None and role not in ROLES:
        raise KeyRefused(f"An api key's role is {LOOK} or {ACT}, not {role!r}.")
    with audited(runtime, who=who, via=via, action="create key", subject=name):
        return _add(runtime, kind, name, role)


def rotate_key(
    runtime: Runtime, key_id: str, *, overlap: str | timedelta = "1 day", who: str, via: str = "terminal"
) -> NewKey:
    """Make a key like this one, which ends after the overlap. Raises KeyRefused, or InvalidDuration."""
    after = parse_duration(overlap, "overlap")
    old = _known(runtime, key_id)
    with audited(runtime, who=who, via=via, action="rotate key", subject=f"{old.name} {old.id}"):
        made = _add(runtime, old.kind, old.name, old.role)
        with runtime.store.connection() as connection:
            connection.keys.end(key_id, after)
        return made


def revoke_key(runtime: Runtime, key_id: str, *, who: str, via: str = "terminal") -> bool:
    """End a key; every process knows within two seconds. False when it was over. Raises KeyRefused."""
    old = _known(runtime, key_id)
    with (
        audited(runtime, who=who, via=via, action="revoke key", subject=f"{old.name} {old.id}"),
        runtime.store.connection() as connection,
    ):
        return connection.keys.end(key_id, 0)


def _add(runtime: Runtime, kind: str, name: str, role: str | None) -> NewKey:
    made = NewKey(new_id(), f"flows_{kind}_{secrets.token_urlsafe(32)}")
    with runtime.store.connection() as connection:
        connection.keys.add(made.id, kind, name, role, hashed(made.secret))
    return made


def _known(runtime: Runtime, key_id: str) -> KeyRow:
    with runtime.store.connection() as connection:
        row = connection.keys.get(key_id)
    if row is None:
        raise KeyRefused(f"No key {key_id!r}; `celery -A <app> flows keys list` shows them.")
    return row


def _summary(row: KeyRow, now: int) -> KeySummary:
    ends_at, good = moment(row.ends_at), _is_good(row, now)
    return KeySummary(row.id, row.kind, row.name, row.role, to_datetime(row.created_at), ends_at, good)


def _is_good(row: KeyRow, now: int) -> bool:
    return row.ends_at is None or row.ends_at > now


@dataclass(frozen=True, slots=True)
class Opened:
    """What a key opens: `role` is of api keys. `name` tells whose it is."""

    name: str
    role: str | None


class Keyhole:
    """Tries keys against those of the settings and of the store, which it reads again every two seconds."""

    def __init__(self, runtime: Callable[[], Runtime], settings: DoorSettings) -> None:
        self._runtime = runtime
        self._fixed = {EVENT: settings.event_keys, API: settings.api_keys}
        self._rows: Sequence[tuple[KeyRow, bool]] = ()
        self._read_at: float | None = None

    def is_set(self, kind: str) -> bool:
        """True when there are keys of this kind, or were: then one must be shown. Raises StoreUnavailable.

        To revoke the last one closes the door, it does not open it.
        """
        return bool(self._fixed[kind]) or any(row.kind == kind for row, _ in self._known())

    def opens(self, kind: str, key: str) -> Opened | None:
        """What the key opens, None for one that opens nothing. Every key is compared, each in constant time."""
        given = hashed(key)
        found: Opened | None = None
        for known in self._fixed[kind]:
            if hmac.compare_digest(known, given):
                found = Opened("settings", ACT if kind == API else None)
        for row, is_good in self._known():
            if hmac.compare_digest(row.hash, given) and is_good and row.kind == kind:
                found = Opened(row.name, row.role)
        return found

    def _known(self) -> Sequence[tuple[KeyRow, bool]]:
        runtime = self._runtime()
        now = runtime.clock.monotonic()
        if self._read_at is None or now - self._read_at >= FRESH_SECONDS:
            try:
                with runtime.store.connection() as connection:
                    now_there = connection.now()
                    self._rows = [(row, _is_good(row, now_there)) for row in connection.keys.all()]
            except StoreUnavailable:
                # What was good a moment ago is; what follows needs the store anyway.
                if self._read_at is None:
                    raise
            self._read_at = now
        return self._rows
