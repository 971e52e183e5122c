"""The doctor's look at the store: does it answer, is its schema ours, whose clock is right, what waits too long."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from celeryflows.console.doctor_mariadb import check_mariadb
from celeryflows.console.findings import Finding, bad, ok, warn
from celeryflows.console.workers import WorkerSummary, workers_of
from celeryflows.durations import MINUTE, SECOND, format_duration
from celeryflows.engine.settings import Settings
from celeryflows.errors import ConfigurationError, PayloadLocked, StoreError
from celeryflows.store.database import Store
from celeryflows.store.reports.health import Waiting, overdue, queued, unrouted
from celeryflows.store.reports.server import MariadbView, encoding, mariadb_server
from celeryflows.store.versions import fits, is_newer, newest_version, schema_version

SKEW_WARN, SKEW_BAD = SECOND, 30 * SECOND
# Timers and recovery are late by a second or two when all is well.
LATE = 10 * SECOND
BACKLOG_OLD = MINUTE
NOBODY = Waiting(0, None)


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What was seen of the store. `problem` says why nothing was; `skew` is this host's clock less the store's."""

    url: str
    kind: str
    problem: str = ""
    missing: bool = False
    have: str | None = None
    want: str = ""
    newer: bool = False
    fits: bool = False
    identity: str = ""
    sealed_under: tuple[str, ...] = ()
    writes_under: str | None = None
    lacking: str = ""
    skew: int | None = None
    now: int = 0
    workers: tuple[WorkerSummary, ...] = ()
    queued: Waiting = NOBODY
    overdue: Waiting = NOBODY
    unrouted: Waiting = NOBODY
    server: MariadbView | None = None
    encoding: str | None = None

    @property
    def usable(self) -> bool:
        """True when its rows could be read."""
        return not self.problem and not self.missing and self.fits

    @property
    def alive(self) -> tuple[WorkerSummary, ...]:
        """The workers that beat."""
        return tuple(worker for worker in self.workers if worker.alive)


def look_at(store: Store, settings: Settings) -> StoreFacts:
    """Look without changing anything: a missing file is not made, and what was seen before a failure is kept."""
    facts: dict[str, object] = {"url": store.shown_url(), "kind": store.dialect.name, "want": newest_version()}
    try:
        _look(store, settings, facts)
    except (StoreError, ConfigurationError) as error:
        facts["problem"] = str(error)
    finally:
        store.dispose()
    return StoreFacts(**facts)  # type: ignore[arg-type]


def _look(store: Store, settings: Settings, facts: dict[str, object]) -> None:
    if is_missing_file(store):
        facts["missing"] = True
        return
    facts["have"] = have = schema_version(store)
    facts["newer"], facts["fits"] = is_newer(have), fits(store, have)
    if not facts["fits"]:
        return
    with store.connection() as connection:
        before = store.clock.now()
        now = connection.now()
        # The answer was on its way for a while: half of it is not skew.
        facts["skew"] = 0 if store.dialect.name == "sqlite" else (before + store.clock.now()) // 2 - now
        facts["now"] = now
        facts["identity"] = connection.flows.fact("identity") or ""
        facts["sealed_under"] = tuple(connection.flows.sealed_under())
        facts["writes_under"] = store.sealer.writes_under if store.sealer is not None else None
        try:
            connection.flows.check_keys()
        except PayloadLocked as error:
            facts["lacking"] = str(error)
    facts["server"] = mariadb_server(store)
    facts["encoding"] = encoding(store)
    facts["workers"] = tuple(workers_of(store, settings))
    facts["queued"] = queued(store)
    facts["overdue"] = overdue(store, now - LATE)
    facts["unrouted"] = unrouted(store, now - LATE)


def is_missing_file(store: Store) -> bool:
    """True for an SQLite file that nobody has made yet; to connect would make it."""
    return store.dialect.name == "sqlite" and not store.in_memory and not Path(str(store.url.database)).exists()


def check_store(facts: StoreFacts) -> list[Finding]:
    """Store, schema and clock."""
    if facts.problem:
        return [bad("store", facts.problem, "Start the server, or mend flows_store_url.")]
    if facts.missing:
        return [ok("store", f"{facts.url} is not there yet; the first worker or sender makes it")]
    found = [ok("store", f"{facts.url} answers"), _schema(facts)]
    if facts.server is not None:
        found += check_mariadb(facts.server)
    if facts.encoding not in (None, "UTF8"):
        found.append(_encoding(facts))
    return [*found, *([_clock(facts), _payloads(facts)] if facts.skew is not None else [])]


def _encoding(facts: StoreFacts) -> Finding:
    shown = f"the database is in {facts.encoding}: text that it cannot hold is refused, and its step fails"
    remedy = (
        "Make a database with ENCODING 'UTF8' TEMPLATE template0, bring this one into it by pg_dump and psql while no "
        "worker or sender runs, and set flows_store_url to it."
    )
    return warn("encoding", shown, remedy)


def _payloads(facts: StoreFacts) -> Finding:
    if facts.lacking:
        return bad("payloads", facts.lacking, "Workers refuse to start and senders to send until then.")
    if facts.writes_under is not None:
        others = [name for name in facts.sealed_under if name != facts.writes_under]
        shown = f"encrypted under the key {facts.writes_under}"
        return ok("payloads", f"{shown}; older ones may be under {', '.join(others)}" if others else shown)
    return ok("payloads", "not encrypted any more; older ones are" if facts.sealed_under else "not encrypted")


def _schema(facts: StoreFacts) -> Finding:
    if facts.have == facts.want:
        return ok("schema", f"version {facts.have}, the one that this celeryflows wants")
    shown = "no schema yet" if facts.have is None else f"version {facts.have}"
    if facts.newer and facts.fits:
        return ok("schema", f"{shown}, made by a newer celeryflows, on which this one works too")
    if facts.newer:
        return bad(
            "schema", f"{shown}, made by a newer celeryflows", f"Update celeryflows here; it knows {facts.want}."
        )
    if facts.kind == "sqlite":
        return ok("schema", f"{shown}; the next worker or sender brings it to {facts.want}")
    return bad("schema", f"{shown}; this celeryflows wants {facts.want}", "Run: celery -A <app> flows db upgrade")


def _clock(facts: StoreFacts) -> Finding:
    skew = facts.skew or 0
    if facts.kind == "sqlite":
        return ok("clock", "the store's clock is this host's")
    shown = f"this host is {format_duration(abs(skew))} {'ahead of' if skew > 0 else 'behind'} the store"
    remedy = "Keep both hosts on NTP: an event's own time comes from its sender, everything else from the store."
    if abs(skew) >= SKEW_BAD:
        return bad("clock", shown, remedy)
    return warn("clock", shown, remedy) if abs(skew) >= SKEW_WARN else ok("clock", shown)


def check_work(facts: StoreFacts, deaf: Sequence[WorkerSummary]) -> list[Finding]:
    """Workers, those among them that take nothing, and what waits for them."""
    return [*_workers(facts), *(_consuming(deaf) if deaf else ()), _queued(facts), *_late(facts)]


def _consuming(deaf: Sequence[WorkerSummary]) -> list[Finding]:
    shown = ", ".join(f"{worker.host} (pid {worker.pid})" for worker in deaf)
    text = f"{shown}: alive, at work on no run, and what its queues hold has waited for long"
    remedy = "Busy with plain tasks? Else its loop hangs: its log, or py-spy dump --pid, says where. Restart it."
    return [warn("consuming", text, remedy)]


def _workers(facts: StoreFacts) -> list[Finding]:
    start = "Start one: celery -A <app> worker"
    if not facts.alive:
        return [warn("workers", "none is alive: runs wait until one starts", start)]
    shown = ", ".join(f"{w.host} (pid {w.pid}, {w.pool}{', leads' if w.leads else ''})" for w in facts.alive)
    found = [ok("workers", f"{len(facts.alive)} alive: {shown}")]
    if not any(worker.leads for worker in facts.alive):
        found.append(warn("leader", "no worker leads: timers and recovery wait", "Another takes over within 10 s."))
    if len({(worker.app, worker.release) for worker in facts.alive}) > len({worker.app for worker in facts.alive}):
        text = "living workers of one app declare different flows"
        found.append(warn("releases", text, "Fine during a deploy; else restart the old ones."))
    if facts.kind == "sqlite" and len({worker.host.partition("@")[2] for worker in facts.alive}) > 1:
        text = "workers of several hosts share an SQLite file"
        found.append(bad("hosts", text, "SQLite is for one host. Set flows_store_url to PostgreSQL or MariaDB."))
    return found


def _queued(facts: StoreFacts) -> Finding:
    waiting = facts.queued
    if waiting.oldest is None:
        return ok("queued runs", "none waits for a worker")
    age = facts.now - waiting.oldest
    shown = f"{waiting.count:,} wait for a worker, the oldest for {format_duration(max(0, age))}"
    if age < BACKLOG_OLD:
        return ok("queued runs", shown)
    remedy = "Start more workers." if facts.alive else "Start a worker: celery -A <app> worker"
    return warn("queued runs", shown, f"{remedy} Do they consume the queue that the flows are routed to?")


def _late(facts: StoreFacts) -> list[Finding]:
    found = []
    remedy = "The leading worker does this each second. Is one alive, and its log quiet?"
    if facts.overdue.count:
        found.append(warn("timers", f"{facts.overdue.count:,} runs should have been woken by now", remedy))
    if facts.unrouted.count:
        found.append(warn("events", f"{facts.unrouted.count:,} are stored and not routed yet", remedy))
    return found
