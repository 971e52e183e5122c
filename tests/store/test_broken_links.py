"""The link to the store breaks at each commit of a whole story in turn: nothing is doubled and nothing is lost."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows.clock import TurnedClock
from celeryflows.engine.intake import send
from celeryflows.engine.registrar import register_sender
from celeryflows.engine.resume import requeue, wake_due
from celeryflows.engine.runtime import Flow
from celeryflows.engine.turn import take_turn
from celeryflows.model.events import Event
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.retries import RetryPolicy
from celeryflows.model.triggers import OnEvent
from celeryflows.scheduler.sweeper import route_left
from celeryflows.store.schema import metadata
from tests.store.lossy import Break, LossyStore
from tests.store.making import SECOND, a_runtime, rows_of

PAID = {"order": 1}


class Story:
    """An order is charged, told, rests, finds its payment there already, waits for the parcel and completes."""

    def __init__(self, store: LossyStore, clock: TurnedClock) -> None:
        self.store, self.clock = store, clock
        self.ran: Counter[str] = Counter()
        self.repairs = 0
        self.runtime = a_runtime(store)
        self.runtime.flows = {
            "order": self._flow("order", "shop/ordered", self.order),
            "ship": self._flow("ship", "shop/charged", self.ship),
            "audit": self._flow("audit", "flows/run.completed", lambda ctx: ctx.event.data["flow"]),
        }
        self.runtime.worker = "w1"
        register_sender(self.runtime)

    def order(self, ctx: Any) -> Any:
        charged = ctx.step.run("charge", self._count, "charge")
        ctx.step.send_event("tell", Event("shop/charged", PAID))
        ctx.step.sleep("rest", "1s")
        words = {"match": "data.order", "timeout": "1h", "lookback": "run"}
        paid = ctx.step.wait_for_event("paid", event="shop/paid", **words)
        parcel = ctx.step.wait_for_event("parcel", event="shop/parcel", **words)
        return [charged, paid.data["by"], parcel.data["no"]]

    def ship(self, ctx: Any) -> Any:
        return ctx.step.run("ship", self._count, "ship")

    def tell(self) -> None:
        """From the first event to the last turn; recovery follows each scene."""
        send(self.runtime, [Event("shop/ordered", PAID, id="o1"), Event("shop/paid", {**PAID, "by": "Ann"})])
        self._drain()
        self.clock.turn(2 * SECOND)
        wake_due(self.runtime)
        self._drain()
        send(self.runtime, [Event("shop/parcel", {**PAID, "no": 7})])
        self._drain()

    def end(self) -> dict[str, Any]:
        """How all stands, without what differs from one telling to the next."""
        runs = "SELECT flow, status, turn, output, worker, lost FROM flows_runs"
        steps = "SELECT r.flow, s.key, s.state, s.value FROM flows_steps s JOIN flows_runs r ON r.id = s.run_id"
        waits = "SELECT w.key, w.state, e.name FROM flows_waits w JOIN flows_events e ON e.id = w.event_id"
        events = "SELECT name, arrived_at IS NULL, piece FROM flows_events"
        ends = {sql.split()[-1]: sorted(map(repr, rows_of(self.store, sql))) for sql in (runs, waits, events)}
        told = [row[:3] for row in rows_of(self.store, steps)]
        return {**ends, "steps": sorted(told), "ran": dict(self.ran)}

    def _flow(self, name: str, event: str, handler: Any) -> Flow:
        return Flow(FlowDefinition(name, triggers=(OnEvent(event),)), handler, RetryPolicy())

    def _count(self, name: str) -> int:
        self.ran[name] += 1
        return self.ran[name]

    def _drain(self) -> None:
        self._take_turns()
        while self._recover():
            self.repairs += 1
            self._take_turns()

    def _take_turns(self) -> None:
        while self.runtime.dispatcher.waiting:
            take_turn(self.runtime, self.runtime.dispatcher.waiting.popleft().run_id)

    def _recover(self) -> bool:
        """What the sweeper does later: events unrouted, messages not sent, turns that nobody takes."""
        for timer in self.store.late:
            timer.join(10)
        routed = route_left(self.runtime, 0)
        with self.store.connection() as connection:
            left = connection.messages.unclaimed(0)
            abandoned = connection.runs.of_worker("w1")
        self.runtime.dispatcher.send_runs([one.delivery for one in left])
        return bool(routed + len(left) + sum(requeue(self.runtime, held) for held in abandoned))


@pytest.fixture
def lossy(migrated_url: str, clock: TurnedClock) -> Iterator[LossyStore]:
    made = LossyStore(migrated_url, clock)
    yield made
    made.dispose()


def empty(store: LossyStore) -> None:
    store.break_link("after", -1)
    with store.begin() as tx:
        for table in metadata.tables:
            tx.execute(f"DELETE FROM {table} WHERE 1 = 1" + (" AND key <> 'identity'" if "meta" in table else ""))


def told(store: LossyStore, clock: TurnedClock, link: Break, at: int) -> Story:
    """The story on an empty store, with the link broken at one commit."""
    empty(store)
    story = Story(store, clock)
    store.break_link(link, at)
    story.tell()
    return story


@pytest.mark.parametrize("link", ["before", "after", "during"])
def test_a_link_that_breaks_at_any_commit_doubles_and_loses_nothing(
    lossy: LossyStore, clock: TurnedClock, link: Break
) -> None:
    whole = told(lossy, clock, "after", -1)
    expected, commits = whole.end(), len(lossy.commits)
    assert expected["ran"] == {"charge": 1, "ship": 1}
    assert sum("completed" in run for run in expected["flows_runs"]) == 4
    assert (whole.repairs, commits > 15) == (0, True)
    for at in range(commits):
        broken = told(lossy, clock, link, at)
        assert len(lossy.commits) > at
        assert broken.repairs <= 1
        assert broken.end() == expected, f"the link broke {link} commit {at}: {lossy.commits[at]}"
