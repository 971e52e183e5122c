"""Runs, events, steps and runtimes for tests, made by the store's own verbs."""

import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.ids import derived_id, new_id
from celeryflows.model.events import StoredEvent
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.retries import RetryPolicy
from celeryflows.model.runs import NewRun, Status
from celeryflows.model.waits import WaitSpec
from celeryflows.scheduler.inline import InlineDispatcher
from celeryflows.schemas import SchemaRegistry
from celeryflows.store.database import Store
from celeryflows.store.runs import Claim, Held, Outcome
from celeryflows.store.steps import StepRow
from celeryflows.store.waits import NewWait
from tests.waiting import eventually

T = TypeVar("T")
# Sessions that stand before a lock; MariaDB tells of them with a delay.
WHO_WAITS = {
    "postgresql": "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mariadb": "information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}
FLOW, EVENT = "shop.order", "shop/ordered"
SECOND = 1_000_000


def an_event(name: str = EVENT, text: str = "{}", *, id: str | None = None, ext_id: str | None = None) -> StoredEvent:
    """An event that is not stored yet; `text` is what the store keeps."""
    return StoredEvent(id or new_id(), ext_id, name, text, {}, 1_700_000_000_000_000, None)


def put_event(store: Store, name: str = EVENT, text: str = "{}") -> str:
    """Store an event that arrives now; its id."""
    event = an_event(name, text)
    with store.connection() as connection:
        connection.events.add([event])
    return event.id


def put_run(store: Store, status: Status = Status.QUEUED, **fields: Any) -> str:
    """Store a run with an event of its own; its id."""
    event_id = put_event(store)
    run = NewRun(**{"id": new_id(), "flow": FLOW, "version": None, "status": status, "event_id": event_id, **fields})
    with store.connection() as connection:
        connection.runs.add([run])
    return run.id


def take_claim(store: Store, run_id: str, worker: str = "w1") -> Claim:
    """Claim a queued run."""
    with store.connection() as connection:
        claim = connection.runs.claim(run_id, worker, random.getrandbits(62))
    assert claim is not None, f"run {run_id} was not there to claim"
    return claim


def running(store: Store, worker: str = "w1") -> Claim:
    """A run in its first turn."""
    return take_claim(store, put_run(store), worker)


def held(claim: Claim) -> Held:
    """The claim as recovery sees it."""
    return Held(claim.run_id, claim.turn, claim.worker, claim.token)


def run_in(store: Store, status: Status) -> tuple[str, Claim | None]:
    """A run that came to the status by the store's own verbs, and the claim of its last turn if it had one."""
    if status in (Status.QUEUED, Status.SKIPPED):
        return put_run(store, status), None
    if status is Status.SCHEDULED:
        return put_run(store, status, wake_at=1), None
    claim = running(store)
    with store.connection() as connection:
        if status is Status.SUSPENDED:
            assert connection.runs.suspend(claim, 1, 0)
        elif status is Status.CANCELLED:
            assert connection.runs.cancel([claim.run_id], "for a test")
        elif status is not Status.RUNNING:
            assert connection.runs.finish(claim, status, None, None)
    return claim.run_id, claim


def outcome(store: Store, run_id: str) -> Outcome:
    """How the run stands."""
    with store.connection() as connection:
        found = connection.runs.outcome(run_id)
    assert found is not None
    return found


def a_step(claim: Claim, key: str = "charge", value: str | None = "1", **fields: Any) -> StepRow:
    """A step that is done, under the claim's fence unless told otherwise."""
    row = {"run": claim.run_id, "turn": claim.turn, "token": claim.token, "key": key, "kind": "run", "state": "done"}
    return StepRow(**{**row, "attempts": 1, "value": value, "began": claim.at, **fields})


def a_wait(claim: Claim, key: str = "paid", *, due: int = 2**50, began: int = 0, **fields: Any) -> NewWait:
    """A wait of the run for `shop/paid`, by data.order = 1 unless told otherwise."""
    words = {"name": "shop/paid", "path": "data.order", "value": "1", "if_exp": None}
    spec = WaitSpec(**{"key": key, "began": began, "timeout": SECOND, **words, **fields})
    return NewWait(derived_id("wait", claim.run_id, key), claim.run_id, spec, due)


def a_runtime(store: Store, handlers: Mapping[str, Callable[[Any], Any]] | None = None, **more: Any) -> Runtime:
    """An engine over the store whose messages stay in a list; `handlers` are its flows by name."""
    flows = {
        name: Flow(FlowDefinition(name), handler, RetryPolicy(), more.get("is_async", False))
        for name, handler in (handlers or {}).items()
    }
    return Runtime("shop", store, InlineDispatcher(), SchemaRegistry(), flows, clock=store.clock)


def rows_of(store: Store, sql: str, **params: Any) -> list[tuple[Any, ...]]:
    """The answer of a statement."""
    with store.connection() as connection:
        return [tuple(row) for row in connection.execute(sql, **params)]


def until_somebody_waits(store: Store, count: int = 1) -> None:
    """Until so many sessions of the server wait for a lock."""
    waiting = f"SELECT 1 FROM {WHO_WAITS[store.dialect.name]}"
    # MariaDB looks anew only when it was not asked for a tenth of a second.
    eventually(lambda: len(rows_of(store, waiting)) >= count, every=0.15)


def at_once(count: int, call: Callable[[int], T]) -> list[T]:
    """What `call(0)` to `call(count - 1)` give, each in a thread of its own, started together."""
    start = Barrier(count)

    def one(number: int) -> T:
        start.wait(10)
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
