"""Promises of waits under races: arrival and registration never miss each other, and of timeout and event one wins."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from celeryflows import Event
from celeryflows.clock import TurnedClock
from celeryflows.engine import resume
from celeryflows.engine.resume import wake_due
from celeryflows.engine.turn import take_turn
from celeryflows.store.database import Store
from tests.engine.shop import waiter
from tests.engine.world import NEW_YEAR, Process, World, store_at, us
from tests.store.making import WHO_WAITS
from tests.waiting import eventually

WAITS = {
    "name": {},
    "match": {"match": "data.user"},
    "condition": {"if_exp": "async.data.user == event.data.user"},
}


@pytest.fixture
def sender(shared: World, store_url: str) -> Iterator[Process]:
    """Another process with connections of its own."""
    store = Store(store_url)
    process = Process(store, store.clock, shared.broker, "web")
    yield process
    process.close()
    store.dispose()


class Pause:
    """Stops a store before the commit of a transaction that ran a given statement, until told to go on."""

    def __init__(self, store: Store, statement: str) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self._store = store
        self._statement = statement
        self._seen: set[int] = set()
        store.observer = self._observe

    def _observe(self, sql: str) -> None:
        me = threading.get_ident()
        if self._statement in sql:
            self._seen.add(me)
        elif sql == "COMMIT" and me in self._seen and not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(20)


class Blocked:
    """Tells whether somebody on a store stands before a lock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begun = threading.Event()
        if store.dialect.name == "sqlite":
            store.observer = self._observe

    def __call__(self) -> bool:
        if self._store.dialect.name == "sqlite":
            return self._begun.is_set()
        engine = create_engine(self._store.url)
        try:
            with engine.connect() as connection:
                waiting = f"SELECT count(*) FROM {WHO_WAITS[self._store.dialect.name]}"
                return bool(connection.execute(text(waiting)).scalar())
        finally:
            engine.dispose()

    def _observe(self, sql: str) -> None:
        if sql.startswith("BEGIN"):
            self._begun.set()


def in_background(call: Callable[[], Any]) -> Future[Any]:
    """Call in a thread of its own."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call)
    pool.shutdown(wait=False)
    return future


def make_known(world: World, wait: dict[str, Any]) -> None:
    """Somebody waited in these words before: their shape is known."""
    waiter(world, "before", "before/opened", **wait)
    world.send("before/opened", {"user": "somebody"})


@pytest.mark.parametrize("shape", ["new", "known"])
@pytest.mark.parametrize("kind", WAITS)
def test_an_event_sent_between_the_waits_look_and_its_commit_is_not_missed(
    shared: World, sender: Process, kind: str, shape: str
) -> None:
    waiter(shared, **WAITS[kind])
    if shape == "known":
        make_known(shared, WAITS[kind])
    shared.flows.send("cart/opened", {"user": "u1"})
    run = shared.only_run("waiter")
    pause, blocked = Pause(shared.store, "INSERT INTO flows_waits"), Blocked(sender.runtime.store)

    turn = in_background(lambda: take_turn(shared.runtime, run.id))
    assert pause.reached.wait(10)
    sent = in_background(lambda: sender.flows.send("order/placed", {"user": "u1"}))
    eventually(lambda: blocked() or sent.done())
    pause.go_on.set()
    sent.result(20), turn.result(20)
    shared.drain()

    assert run.output[1] == {"user": "u1"}


@pytest.mark.parametrize("shape", ["new", "known"])
@pytest.mark.parametrize("kind", WAITS)
def test_a_wait_that_begins_between_the_events_look_and_its_commit_is_answered(
    shared: World, sender: Process, kind: str, shape: str
) -> None:
    began, sent_to_its_commit = threading.Event(), threading.Event()

    @shared.flow(name="f", trigger="cart/opened")
    def f(ctx: Any) -> Any:
        began.set()
        assert sent_to_its_commit.wait(20)
        return ctx.step.wait_for_event("order", event="order/placed", timeout="1h", **WAITS[kind]).data

    if shape == "known":
        make_known(shared, WAITS[kind])
    shared.flows.send("cart/opened", {"user": "u1"})
    run = shared.only_run("f")
    pause, blocked = Pause(sender.runtime.store, "INSERT INTO flows_events"), Blocked(shared.store)

    turn = in_background(lambda: take_turn(shared.runtime, run.id))
    assert began.wait(10)
    sent = in_background(lambda: sender.flows.send("order/placed", {"user": "u1"}))
    assert pause.reached.wait(10)
    sent_to_its_commit.set()
    eventually(lambda: blocked() or turn.done())
    pause.go_on.set()
    sent.result(20), turn.result(20)
    shared.drain()

    assert run.output == {"user": "u1"}


def test_in_many_free_races_no_event_is_missed_and_none_taken_twice(shared: World, sender: Process) -> None:
    taken: Counter[int] = Counter()
    senders = ThreadPoolExecutor(4)
    sent: dict[int, Future[Any]] = {}

    @shared.flow(name="f", trigger="cart/opened")
    def f(ctx: Any) -> int:
        n = ctx.event.data["n"]
        if n not in sent:
            # Every other run waits on a path that nobody waited on before.
            sent[n] = senders.submit(sender.flows.send, Event("order/placed", {"n": n, f"n{n % 8}": n}))
        path = "data.n" if n % 2 else f"data.n{n % 8}"
        found = ctx.step.wait_for_event("order", event="order/placed", timeout="1h", match=path).data["n"]
        taken[found] += 1
        return found

    shared.flows.send([Event("cart/opened", {"n": n, f"n{n % 8}": n}) for n in range(80)])
    with ThreadPoolExecutor(4) as takers:
        list(takers.map(lambda run: take_turn(shared.runtime, run.id), shared.runs("f")))
    senders.shutdown(wait=True)
    shared.drain()

    assert [run.output for run in shared.runs("f")] == list(range(80))
    assert taken == Counter(range(80))


# --- timeout against event


@pytest.fixture
def turned(store_url: str) -> Iterator[World]:
    world = World(store_at(store_url, TurnedClock(NEW_YEAR)))
    yield world
    world.close()


@pytest.mark.parametrize(("first", "output"), [("event", {"n": 1}), ("timeout", None)])
def test_of_timeout_and_event_at_the_same_instant_the_first_wins(turned: World, first: str, output: Any) -> None:
    waiter(turned)
    turned.send("cart/opened")
    turned.clock.set(NEW_YEAR + us("1h"))

    if first == "timeout":
        assert wake_due(turned.runtime) == 1
    turned.flows.send("order/placed", {"n": 1})
    if first == "event":
        assert wake_due(turned.runtime) == 0

    assert len(turned.broker.waiting) == 1
    turned.drain()
    (run,) = turned.runs("waiter")
    assert (run.output and run.output[1]) == output


def test_of_timeout_and_event_at_once_exactly_one_wins_and_one_message_is_sent(
    turned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "BATCH", 1)
    waiter(turned, match="data.user")
    turned.send([Event("cart/opened", {"user": n}) for n in range(60)])
    turned.clock.set(NEW_YEAR + us("1h"))

    def time_out() -> None:
        while wake_due(turned.runtime):
            pass

    with ThreadPoolExecutor(2) as pool:
        timeouts = pool.submit(time_out)
        for n in reversed(range(60)):
            turned.flows.send("order/placed", {"user": n})
        timeouts.result(60)

    assert Counter(message.run_id for message in turned.broker.waiting) == Counter(run.id for run in turned.runs())
    turned.drain()
    for run in turned.runs():
        (step,) = run.steps
        assert step.wait == ("answered" if run.output else "expired")
