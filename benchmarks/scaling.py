"""What grows, and what is done meanwhile: an engine over a store of one size, and the acts whose time is taken."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from celery import Celery

from benchmarks.kept import copy_run, drop_copies, keep_ended, look
from celeryflows import Concurrency, Event, Flows
from celeryflows.engine.intake import send
from celeryflows.engine.registrar import register_worker
from celeryflows.engine.resume import wake_due
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.settings import MIB, Settings
from celeryflows.engine.turn import take_turn
from celeryflows.ids import new_id
from celeryflows.scheduler.inline import InlineDispatcher
from celeryflows.schemas import SchemaRegistry
from tests.store.plans import WatchedStore

DATA = {"user": "ann@example.com", "lines": [{"sku": "mug", "pieces": 2}]}


@dataclass
class Desk:
    """An engine without a broker over a store of one size."""

    store: WatchedStore
    runtime: Runtime
    size: int
    more: dict[str, Any] = field(default_factory=dict)

    def send(self, name: str, **data: Any) -> None:
        """Send one event."""
        send(self.runtime, [Event(name, {**DATA, **data})])

    def turn(self) -> str:
        """Take the turn whose message came first; the run's id."""
        delivery = self.runtime.dispatcher.waiting.popleft()  # type: ignore[attr-defined]
        take_turn(self.runtime, delivery.run_id)
        return str(delivery.run_id)

    def forget_messages(self) -> None:
        """Nobody takes the turns that were sent."""
        self.runtime.dispatcher.waiting.clear()  # type: ignore[attr-defined]


def declared(url: str, listeners: int, others: int) -> Flows:
    """The flows of a benchmark: the ones that act, so many that listen to one event, and others that listen to none."""
    app = Celery("scale", broker="memory://", set_as_current=False)
    app.conf.flows_store_url = url
    flows = Flows(app)

    @flows.flow(name="scale.one", trigger="scale/one")
    def one(ctx: Any) -> None:
        ctx.step.run("step", lambda: 1)

    @flows.flow(name="scale.keyed", trigger="scale/keyed", concurrency=Concurrency(2, key="event.data.key"))
    def keyed(ctx: Any) -> None:
        ctx.step.run("step", lambda: 1)

    @flows.flow(name="scale.waits", trigger="scale/waits")
    def waits(ctx: Any) -> None:
        ctx.step.wait_for_event("answer", event="scale/answer", match="data.key", timeout="30 days")

    @flows.flow(name="scale.sleeps", trigger="scale/sleeps")
    def sleeps(ctx: Any) -> None:
        ctx.step.sleep("nap", ctx.event.data["nap"])

    @flows.flow(name="scale.carries", trigger="scale/carries")
    def carries(ctx: Any) -> None:
        ctx.step.run("step", lambda: ctx.event.data["text"])

    for n in range(listeners):
        flows.flow(lambda ctx: None, name=f"scale.listener{n}", trigger="scale/all")
    for n in range(others):
        flows.flow(lambda ctx: None, name=f"scale.other{n}", trigger=f"scale/other.{n}")
    return flows


@contextmanager
def desk_of(url: str, size: int, *, listeners: int = 0, others: int = 0) -> Iterator[Desk]:
    """A desk over the store at the URL, its flows declared there."""
    flows = declared(url, listeners, others)
    store = WatchedStore(url)
    settings = Settings(max_event_bytes=2 * MIB)
    runtime = Runtime("scale", store, InlineDispatcher(), SchemaRegistry(), flows.runtime.flows, settings)
    register_worker(runtime)
    yield Desk(store, runtime, size)
    flows.runtime.store.dispose()
    store.dispose()


# -- acts: each is one whole way through the engine


def one_step(desk: Desk) -> None:
    """An event, its run, one step."""
    desk.send("scale/one")
    desk.turn()


def wait_and_answer(desk: Desk) -> None:
    """A run that waits, and the event that answers it."""
    key = new_id()
    desk.send("scale/waits", key=key)
    desk.turn()
    desk.send("scale/answer", key=key)
    desk.turn()


def sleep_and_wake(desk: Desk) -> None:
    """A run that sleeps for a moment, and the leader's look at what is due."""
    desk.send("scale/sleeps", nap="1ms")
    desk.turn()
    while not wake_due(desk.runtime):
        pass
    desk.turn()


def unanswered(desk: Desk) -> None:
    """An event that somebody might wait for, and nobody does."""
    desk.send("scale/answer", key=new_id())


def keyed(desk: Desk) -> None:
    """A run under one of the keys."""
    desk.send("scale/keyed", key=random.randrange(desk.size))
    desk.turn()


def with_id(desk: Desk) -> None:
    """An event with an id of its sender's."""
    send(desk.runtime, [Event("scale/one", DATA, id=new_id())])
    desk.turn()


def registered(desk: Desk) -> None:
    """What each worker does every ten seconds."""
    register_worker(desk.runtime)


def carried(desk: Desk) -> None:
    """An event of the size, and a step's value of it."""
    desk.send("scale/carries", text=desk.more["text"])
    desk.turn()


def started_by_one(desk: Desk) -> None:
    """One event that starts so many flows."""
    desk.send("scale/all")
    desk.forget_messages()


def answered_by_one(desk: Desk) -> None:
    """One event that answers so many waits."""
    desk.send("scale/answer", key="all")
    assert len(desk.runtime.dispatcher.waiting) == desk.size  # type: ignore[attr-defined]
    desk.forget_messages()


# -- what is there before


def keep(desk: Desk) -> None:
    """Runs that have ended."""
    keep_ended(desk.store, desk.size)


def let_wait(desk: Desk) -> None:
    """Runs that wait for one event's name, each for a value of its own."""
    desk.send("scale/waits", key=new_id())
    copy_run(desk.store, desk.turn(), desk.size, "0C", {"hash": "n"})


def let_sleep(desk: Desk) -> None:
    """Runs that sleep for a month."""
    desk.send("scale/sleeps", nap="30 days")
    copy_run(desk.store, desk.turn(), desk.size, "0C")


def know_keys(desk: Desk) -> None:
    """Keys that runs have had, each with its gate and two slots."""
    with desk.store.begin() as tx:
        limit = desk.runtime.catalog.read(tx).gates.by_flow["scale.keyed"][0]
        gates = [limit.gate({"event": {"data": {"key": key}}}) for key in range(desk.size)]
        for first in range(0, len(gates), 5_000):
            known = [
                {"key": gate.name, "level": 1, "limit": limit.id, "flow": limit.flow, "value": gate.value}
                for gate in gates[first : first + 5_000]
            ]
            tx.gates.know(known)
        tx.execute(
            "INSERT INTO flows_slots (gate, no) SELECT g.key, k.no FROM flows_gates g, "
            "(SELECT 1 AS no UNION ALL SELECT 2) AS k"
        )
    look(desk.store)


def know_ids(desk: Desk) -> None:
    """Events with ids of their senders' within the window."""
    with desk.store.begin() as tx:
        tx.many(
            "INSERT INTO flows_once (key, run_id, expires_at) VALUES (:key, :run, :at) ON CONFLICT (key) DO NOTHING",
            [{"key": new_id(), "run": "r", "at": 2**50 + n} for n in range(desk.size)],
            frozenset({"at"}),
        )
    look(desk.store)


def hold_text(desk: Desk) -> None:
    """A text of the size."""
    desk.more["text"] = "x" * desk.size


def before_answer(desk: Desk) -> None:
    """Copies of a run that waits for one value."""
    drop_copies(desk.store, "0C")
    desk.send("scale/waits", key="all")
    copy_run(desk.store, desk.turn(), desk.size - 1, "0C")
