"""Stories of runs, told from the first event to the last turn: what ran, and how all stands at the end."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from celeryflows.clock import TurnedClock
from celeryflows.engine.finish import cancel
from celeryflows.engine.intake import send
from celeryflows.engine.registrar import register_sender
from celeryflows.engine.resume import pay_debts, requeue, wake_branches, wake_due
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.signalling import signal
from celeryflows.engine.turn import take_turn
from celeryflows.errors import InvokeError, NonRetriableError, StoreUnavailable
from celeryflows.model.events import Event
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.limits import NONE, Limits
from celeryflows.model.retries import RetryPolicy
from celeryflows.model.triggers import OnEvent
from celeryflows.scheduler.sweeper import route_left
from celeryflows.store.connection import TransientError
from tests.store.lossy import LossyStore
from tests.store.making import SECOND, a_runtime, rows_of

PAID = {"order": 1}
POLICY = RetryPolicy()


class Story:
    """Flows over one store, the scenes, and recovery after each; how often each body ran is counted."""

    flows: dict[str, tuple[str, Callable[[Any], Any]]]

    def __init__(self, store: LossyStore, clock: TurnedClock) -> None:
        self.store, self.clock = store, clock
        self.ran: Counter[str] = Counter()
        self.repairs = 0
        self.runtime = a_runtime(store)
        self.runtime.worker = "w1"
        self.runtime.flows = {
            name: Flow(FlowDefinition(name, triggers=(OnEvent(event),), limits=self.limits_of(name)), handler, POLICY)
            for name, (event, handler) in self.flows_of().items()
        }
        register_sender(self.runtime)

    def flows_of(self) -> dict[str, tuple[str, Callable[[Any], Any]]]:
        """Handlers by name, each with the event that starts it."""
        raise NotImplementedError

    def limits_of(self, flow: str) -> Limits:
        """What bounds the flow."""
        return NONE

    def scenes(self) -> list[Callable[[], object]]:
        """What happens, one after the other."""
        raise NotImplementedError

    def tell(self) -> None:
        """All scenes; turns and recovery follow each."""
        for scene in self.scenes():
            scene()
            self._take_turns()
            while self._recover():
                self.repairs += 1
                self._take_turns()
        self.statements, self.commits = len(self.store.statements), len(self.store.commits)

    def end(self) -> dict[str, Any]:
        """How all stands, without what differs from one telling to the next."""
        links = "parent IS NULL, parent_key, continued_from IS NULL, continued_as IS NULL, owes"
        runs = f"SELECT flow, status, turn, attempt, output, error, reason, worker, lost, {links} FROM flows_runs"
        steps = "SELECT r.flow, s.key, s.state, s.value FROM flows_steps s JOIN flows_runs r ON r.id = s.run_id"
        waits = "SELECT w.key, w.state, e.name FROM flows_waits w LEFT JOIN flows_events e ON e.id = w.event_id"
        events = "SELECT name, arrived_at IS NULL, piece FROM flows_events"
        branches = "SELECT path, status, turn, attempt, value, error, worker, lost FROM flows_branches"
        groups = "SELECT path, state, remaining, winner FROM flows_groups"
        slots = "SELECT run_id FROM flows_slots WHERE run_id IS NOT NULL UNION ALL SELECT run_id FROM flows_queue"
        tables = {
            "runs": runs,
            "waits": waits,
            "events": events,
            "branches": branches,
            "groups": groups,
            "slots": slots,
        }
        ends = {name: sorted(map(repr, rows_of(self.store, sql))) for name, sql in tables.items()}
        # A sender's step holds the ids of its events.
        told = [row[:3] if row[1] == "tell" else row for row in rows_of(self.store, steps)]
        return {**ends, "steps": sorted(map(repr, told)), "ran": dict(self.ran)}

    def count(self, name: str) -> int:
        """One more time."""
        self.ran[name] += 1
        return self.ran[name]

    def send(self, *events: Event) -> Callable[[], object]:
        """A scene."""
        return lambda: send(self.runtime, list(events))

    def pass_time(self) -> None:
        """A scene: what sleeps is due."""
        self.clock.turn(10 * SECOND)
        self._tick(wake_due)
        self._tick(wake_branches)

    def _take_turns(self) -> None:
        while self.runtime.dispatcher.waiting:
            delivery = self.runtime.dispatcher.waiting.popleft()
            take_turn(self.runtime, delivery.run_id, branch=delivery.branch)

    def _tick(self, work: Callable[[Runtime], int]) -> int:
        """As the scheduler, which tries again at its next tick."""
        try:
            return work(self.runtime)
        except (StoreUnavailable, TransientError):
            return work(self.runtime)

    def _recover(self) -> bool:
        """What the sweeper does later: events unrouted, messages not sent, turns that nobody takes."""
        for timer in self.store.late:
            timer.join(10)
        routed = self._tick(lambda runtime: route_left(runtime, 0) + pay_debts(runtime, 0))
        with self.store.connection() as connection:
            left = connection.repeat(lambda: connection.messages.unclaimed(0))
            abandoned = connection.repeat(lambda: connection.runs.of_worker("w1"))
            abandoned += connection.repeat(lambda: connection.branches.of_worker("w1"))
        self.runtime.dispatcher.send_runs([one.delivery for one in left])
        return bool(routed + len(left) + sum(requeue(self.runtime, held) for held in abandoned))


class Bought(Story):
    """An order is charged, told, rests, finds its payment there already, waits for the parcel and completes."""

    def flows_of(self) -> dict[str, tuple[str, Callable[[Any], Any]]]:
        return {
            "order": ("shop/ordered", self.order),
            "ship": ("shop/charged", lambda ctx: ctx.step.run("ship", self.count, "ship")),
            "audit": ("flows/run.completed", lambda ctx: ctx.event.data["flow"]),
        }

    def scenes(self) -> list[Callable[[], object]]:
        paid = Event("shop/paid", {**PAID, "by": "Ann"})
        parcel = Event("shop/parcel", {**PAID, "no": 7})
        return [self.send(Event("shop/ordered", PAID, id="o1"), paid), self.pass_time, self.send(parcel)]

    def order(self, ctx: Any) -> Any:
        charged = ctx.step.run("charge", self.count, "charge")
        ctx.step.send_event("tell", Event("shop/charged", PAID))
        ctx.step.sleep("rest", "1s")
        words = {"match": "data.order", "timeout": "1h", "lookback": "run"}
        paid = ctx.step.wait_for_event("paid", event="shop/paid", **words)
        parcel = ctx.step.wait_for_event("parcel", event="shop/parcel", **words)
        return [charged, paid.data["by"], parcel.data["no"]]


class Sad(Story):
    """A step fails at first, the body fails twice, the run fails for good, and one that waits is cancelled."""

    def flows_of(self) -> dict[str, tuple[str, Callable[[Any], Any]]]:
        return {
            "order": ("shop/ordered", self.order),
            "patient": ("shop/ordered", self.patient),
            "mourn": ("flows/run.failed", lambda ctx: ctx.event.data["error"]["message"]),
            "note": ("flows/run.cancelled", lambda ctx: ctx.event.data["reason"]),
        }

    def scenes(self) -> list[Callable[[], object]]:
        later = [self.pass_time] * 3
        return [self.send(Event("shop/ordered", PAID)), *later, self.cancel_the_patient, *later]

    def patient(self, ctx: Any) -> None:
        self.waiting = ctx.run_id
        ctx.step.wait_for_event("w", event="shop/no", timeout="1h")

    def cancel_the_patient(self) -> None:
        self.ran[f"cancelled: {cancel(self.runtime, self.waiting, 'enough')}"] += 1

    def order(self, ctx: Any) -> Any:
        ctx.step.run("flaky", self._fail_until, "flaky", 2)
        self._fail_until("body", 3)
        raise NonRetriableError("no stock")

    def _fail_until(self, name: str, enough: int) -> int:
        if self.count(name) < enough:
            raise ValueError(name)
        return enough


class Linked(Story):
    """A run invokes one that sleeps, one that fails and one that goes on as new twice, then takes another's signal."""

    def flows_of(self) -> dict[str, tuple[str, Callable[[Any], Any]]]:
        return {
            "order": ("shop/ordered", self.order),
            "double": ("shop/no", self.double),
            "bad": ("shop/no", self.bad),
            "count": ("shop/no", self.count_down),
            "rival": ("shop/rival", lambda ctx: ctx.step.wait_for_signal("go", "shop/go", timeout="1h")),
        }

    def scenes(self) -> list[Callable[[], object]]:
        first = [self.send(Event("shop/rival")), self.send(Event("shop/ordered"))]
        return [*first, self.pass_time, lambda: signal(self.runtime, "shop/go", {"by": "Ann"})]

    def order(self, ctx: Any) -> Any:
        doubled = ctx.step.invoke("double", "double", {"n": 4})
        try:
            ctx.step.invoke("bad", "bad")
        except InvokeError as error:
            said = error.message
        counted = ctx.step.invoke("count", "count", {"n": 2})
        go = ctx.step.wait_for_signal("go", "shop/go", timeout="1h", on_conflict="replace")
        return [doubled, said, counted, go.data["by"]]

    def double(self, ctx: Any) -> int:
        ctx.step.sleep("rest", "1s")
        return int(ctx.step.run("double", lambda: self.count("double") * ctx.event.data["n"] * 2))

    def bad(self, ctx: Any) -> None:
        raise NonRetriableError("no stock")

    def count_down(self, ctx: Any) -> str:
        n = ctx.event.data["n"]
        ctx.step.run("tick", self.count, f"tick {n}")
        return ctx.continue_as_new({"n": n - 1}) if n else "counted"
