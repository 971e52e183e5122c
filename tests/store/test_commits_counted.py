"""What a turn asks of the store, counted statement by statement on every database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from celeryflows.engine.intake import send
from celeryflows.engine.registrar import register_sender, register_worker
from celeryflows.engine.resume import wake_due
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.starting import Call, start
from celeryflows.engine.turn import take_turn
from celeryflows.model.events import FLOW_INVOKED, Event
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.limits import Concurrency, Limits
from celeryflows.model.retries import RetryPolicy
from celeryflows.model.runs import Status
from celeryflows.model.triggers import OnEvent
from celeryflows.scheduler.inline import InlineDispatcher
from celeryflows.schemas import SchemaRegistry
from celeryflows.store.database import Store
from tests.engine.bundles import take_bundle
from tests.store.making import outcome

CHANGES = ("INSERT", "UPDATE", "DELETE", "WITH FENCE", "WITH DONE")


def runtime_with(store: Store, handler: Callable[[Any], Any]) -> Runtime:
    """An engine with one flow."""
    flow = Flow(FlowDefinition("counted"), handler, RetryPolicy())
    return Runtime("counted", store, InlineDispatcher(), SchemaRegistry(), {"counted": flow})


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """Collects what is sent to the database."""
    seen: list[str] = []
    store.observer = lambda sql: seen.append(" ".join(sql.split()).upper())
    try:
        yield seen
    finally:
        store.observer = None


def commits(seen: list[str]) -> int:
    """A statement that changes something outside a transaction is a commit of its own."""
    count, inside = 0, False
    for sql in seen:
        if sql.startswith(("BEGIN NOT ATOMIC", *CHANGES)):
            # MariaDB's block is a transaction of its own where none is open.
            count += not inside
        elif sql.startswith(("BEGIN", "START")):
            inside = True
        elif sql == "COMMIT":
            count, inside = count + 1, False
    return count


def counted_turn(store: Store, handler: Callable[[Any], Any]) -> list[str]:
    """The statements of a run's first turn; the catalog is warm, as it is in a worker."""
    runtime = runtime_with(store, handler)
    take_turn(runtime, start(runtime, Call("counted", Event(FLOW_INVOKED))))
    run_id = start(runtime, Call("counted", Event(FLOW_INVOKED)))
    with statements(store) as seen:
        end = take_turn(runtime, run_id)
    assert end.status in (Status.COMPLETED, Status.SUSPENDED)
    return seen


def test_a_recorded_step_is_one_statement_and_one_commit(store: Store) -> None:
    def two(ctx: Any) -> None:
        ctx.step.run("a", lambda: 1)
        ctx.step.run("b", lambda: 1)

    def three(ctx: Any) -> None:
        two(ctx)
        ctx.step.run("c", lambda: 1)

    fewer, more = counted_turn(store, two), counted_turn(store, three)
    assert len(more) - len(fewer) == 1
    assert commits(more) - commits(fewer) == 1
    assert [sql for sql in more if "INSERT INTO FLOWS_STEPS" in sql] == [more[1], more[2], more[3]]


@pytest.mark.parametrize("steps", [0, 1, 10])
def test_a_turn_of_n_fresh_steps_costs_at_most_n_plus_two_commits(store: Store, steps: int) -> None:
    seen = counted_turn(store, lambda ctx: [ctx.step.run(f"s{i}", int) for i in range(steps)])
    assert commits(seen) <= steps + 2
    assert len(seen) <= steps + 3, f"a first turn reads no memos: {seen}"


def test_the_runs_of_a_bundle_share_a_commit_between_one_and_the_next(store: Store) -> None:
    runtime = runtime_with(store, lambda ctx: ctx.step.run("a", int))
    take_turn(runtime, start(runtime, Call("counted", Event(FLOW_INVOKED))))
    runs = [start(runtime, Call("counted", Event(FLOW_INVOKED))) for _ in range(4)]
    with statements(store) as seen:
        take_bundle(runtime, runs)
    shared = 3 if store.dialect.has_writing_ctes else 0
    assert commits(seen) == len(seen) == 3 * len(runs) - shared
    assert {outcome(store, run).status for run in runs} == {Status.COMPLETED}


def test_a_turn_that_goes_to_sleep_costs_at_most_n_plus_two_commits(store: Store) -> None:
    def sleeper(ctx: Any) -> None:
        ctx.step.run("a", lambda: 1)
        ctx.step.sleep("nap", "1 h")

    assert commits(counted_turn(store, sleeper)) <= 3


def test_a_turn_that_waits_costs_at_most_n_plus_two_commits(store: Store) -> None:
    def waiter(ctx: Any) -> None:
        ctx.step.run("a", lambda: 1)
        ctx.step.wait_for_event("w", event="shop/paid", timeout="1 h")

    assert commits(counted_turn(store, waiter)) <= 3


@pytest.mark.parametrize("count", [1, 50])
def test_a_send_is_one_transaction_however_many_events_it_has(store: Store, count: int) -> None:
    """On PostgreSQL five round trips for one event or for fifty: lock, look, events, runs, commit."""
    flow = Flow(FlowDefinition("counted", triggers=(OnEvent("shop/paid"),)), lambda ctx: None, RetryPolicy())
    runtime = Runtime("counted", store, InlineDispatcher(), SchemaRegistry(), {"counted": flow})
    register_sender(runtime)
    send(runtime, [Event("shop/paid", {"n": 0})])
    with statements(store) as seen:
        send(runtime, [Event("shop/paid", {"n": n}) for n in range(count)])
    assert commits(seen) == 1
    assert sum("FLOWS_RUNS" in sql for sql in seen) == 1
    assert len(seen) == (6 if store.dialect.name == "mariadb" else 5)
    with store.connection() as connection:
        rows = connection.execute(
            "SELECT e.data FROM flows_runs r JOIN flows_events e ON e.id = r.event_id WHERE r.status = 'queued' "
            "AND r.sent_at > 0 ORDER BY e.id"
        )
    assert [row[0] for row in rows][1:] == [f'{{"n":{n}}}' for n in range(count)]


OF_LIMITS = ("FLOWS_SLOTS", "FLOWS_QUEUE", "FLOWS_GATES", "FLOWS_METERS", "ADVISORY", "SAVEPOINT")


def test_a_run_without_limits_asks_nothing_of_them(store: Store) -> None:
    def handler(ctx: Any) -> None:
        ctx.step.sleep("nap", "1s")

    runtime = runtime_with(store, handler)
    take_turn(runtime, start(runtime, Call("counted", Event(FLOW_INVOKED))))
    with statements(store) as seen:
        run_id = start(runtime, Call("counted", Event(FLOW_INVOKED)))
        take_turn(runtime, run_id)
        with store.connection() as connection:
            connection.execute("UPDATE flows_runs SET wake_at = 0 WHERE id = :id", id=run_id)
        wake_due(runtime)
        take_turn(runtime, run_id)
    assert [sql for sql in seen if any(word in sql for word in OF_LIMITS)] == []


def test_a_limited_run_costs_one_commit_to_start_and_two_to_run(store: Store) -> None:
    runtime = runtime_with(store, lambda ctx: 1)
    (flow,) = runtime.flows.values()
    limited = replace(flow.definition, limits=Limits(concurrency=(Concurrency(2),)))
    runtime.flows = {"counted": replace(flow, definition=limited)}
    register_worker(runtime)
    for _ in range(2):
        take_turn(runtime, start(runtime, Call("counted", Event(FLOW_INVOKED))))
    costs = []
    for waiting in (0, 30):
        for _ in range(waiting):
            start(runtime, Call("counted", Event(FLOW_INVOKED)))
        with statements(store) as seen:
            run_id = start(runtime, Call("counted", Event(FLOW_INVOKED)))
        with statements(store) as more:
            take_turn(runtime, run_id)
        costs.append((commits(seen), commits(more)))
        assert len(seen) <= 16, seen
        assert len(more) <= (11 if store.dialect.name == "mariadb" else 9), more
        if not waiting and store.dialect.name == "postgresql":
            # The claim; the lock with its BEGIN, the end with the slot, the commit.
            assert len(more) == 4, more
            assert sum("FLOWS_VERSION" in sql for sql in seen) <= 1, seen
    assert costs[0] == (1, 2)


def test_a_list_of_keyed_events_takes_its_slots_with_a_few_statements(store: Store) -> None:
    """On a server: savepoint, locks and slots, whether one comes or fifty."""
    limits = Limits(concurrency=(Concurrency(2, key="event.data.n"),))
    flow = Flow(
        FlowDefinition("counted", triggers=(OnEvent("shop/paid"),), limits=limits), lambda ctx: 1, RetryPolicy()
    )
    runtime = Runtime("counted", store, InlineDispatcher(), SchemaRegistry(), {"counted": flow})
    register_worker(runtime)

    def sent(count: int) -> list[str]:
        with statements(store) as seen:
            send(runtime, [Event("shop/paid", {"n": n}) for n in range(count)])
        for delivery in runtime.dispatcher.waiting:  # type: ignore[attr-defined]
            take_turn(runtime, delivery.run_id)
        runtime.dispatcher.waiting.clear()  # type: ignore[attr-defined]
        return seen

    sent(50)
    few, many = sent(2), sent(50)
    if store.dialect.has_advisory_locks:
        assert len(many) == len(few) <= 9, many
    with store.connection() as connection:
        assert connection.execute("SELECT DISTINCT status FROM flows_runs") == [("completed",)]
        assert connection.execute("SELECT 1 FROM flows_slots WHERE run_id IS NOT NULL") == []
