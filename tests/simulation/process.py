"""A process of the simulation: a worker or a client, with a runtime and a link of its own over the shared store."""

import itertools
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from celeryflows import Event
from celeryflows.clock import TurnedClock
from celeryflows.engine.bundled_runs import BundledRuns
from celeryflows.engine.catalog import Catalog
from celeryflows.engine.intake import send
from celeryflows.engine.registrar import release_of
from celeryflows.engine.runtime import Flow, Handler, LetGo, Runtime
from celeryflows.engine.settings import Settings
from celeryflows.engine.signalling import signal
from celeryflows.engine.turn import TurnEnd, take_turn
from celeryflows.errors import StoreUnavailable
from celeryflows.model.cancels import CancelOn, Timeouts
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.retries import RetryPolicy
from celeryflows.model.runs import Delivery, carrier_id
from celeryflows.model.triggers import OnEvent
from celeryflows.scheduler.tick import Scheduler
from celeryflows.schemas import SchemaRegistry
from celeryflows.store.runs import Claim, Outcome
from celeryflows.store.workers import WorkerRow
from tests.simulation.activity import Activity, Faults
from tests.simulation.broker import SimulatedBroker
from tests.simulation.bundles import carried_by, take_bundle
from tests.simulation.elsewhere import Elsewhere, Watch
from tests.simulation.gates import limits_of
from tests.simulation.kept import Kept
from tests.simulation.kinds import FREE, KINDS
from tests.simulation.ledger import Ledger, Signalled
from tests.simulation.link import LinkedStore
from tests.simulation.messages import Bundle, Message, packed
from tests.simulation.player import flow_name, handler_of
from tests.simulation.programs import Program
from tests.simulation.stores import WorldStore

SETTINGS = Settings()
# What a point costs: no two things happen at the same moment.
A_WHILE = 100
# Some points long: most branches are over sooner, some are not; and a run of a bundle.
A_MOMENT, A_LITTLE_LONGER = 12 * A_WHILE, 30 * A_WHILE

RECORDED = """
SELECT s.state FROM flows_steps s JOIN flows_runs r ON r.id = s.run_id
WHERE s.run_id = :run AND s.key = :key AND s.state IN ('done', 'failed')
AND r.status = 'running' AND r.turn = :turn AND r.claim_tok = :token
"""
RECORDED_IN_BRANCH = RECORDED.replace(
    "flows_runs r ON r.id = s.run_id", "flows_branches r ON r.run_id = s.run_id"
).replace("s.run_id = :run", "s.run_id = :run AND r.path = :path")


def trigger_name(number: int) -> str:
    """The event that starts a program."""
    return f"start/{number}"


class Process:
    """One process, dead or alive. Its activities are those that were stopped and may go on."""

    def __init__(
        self,
        name: str,
        programs: Sequence[Program],
        clock: TurnedClock,
        broker: SimulatedBroker,
        ledger: Ledger,
        shared: WorldStore,
        release: int,
    ) -> None:
        self.name = name
        self.ledger = ledger
        self.is_dead = False
        self.current: Activity | None = None
        self.stopped: list[Activity] = []
        self._kept: list[Kept] = []
        self._clock, self._broker = clock, broker
        self._children = itertools.count()
        self._shared = {flow_name(i) for i, program in enumerate(programs) if program.bundled}
        self.store = LinkedStore(clock, shared, self.touch, ledger)
        flows = {flow_name(i): _flow(i, program, self, release) for i, program in enumerate(programs)}
        self.runtime = Runtime(
            "simulation",
            self.store,
            self,
            SchemaRegistry(),
            flows,
            SETTINGS,
            clock,
            name,
            lambda: 0.5,
            Catalog(0),
            self,
        )
        self.runtime.tasks = Elsewhere(self, broker)
        # Every other one leaves each branch to its message; none does where runs travel together.
        self.runtime.carries = name[-1] in "02468" or bool(self._shared)
        release = release_of([flow.definition for flow in flows.values()])
        row = WorkerRow(name, "simulation", release, "host", 1, "prefork", "celery")
        self.scheduler = Scheduler(self.runtime, broker, row, self._active)
        self.scheduler._tasks = Watch(self.runtime)  # type: ignore[assignment]
        # They decide nothing, and would be a sixth of all work.
        self.scheduler._counter = NoFigures()  # type: ignore[assignment]

    # -- doing

    def do(self, work: Callable[[], Any], faults: Faults = ()) -> None:
        """Do something until it ends, dies or is stopped."""
        self._go_on(Activity(self, work, faults), lambda activity: activity.start())

    def tick(self, faults: Faults = ()) -> None:
        """What a worker has one thread for: nothing while that was stopped in the middle."""
        if not any(one.work == self.scheduler.tick for one in self.stopped):
            self.do(self.scheduler.tick, faults)

    def take(self, message: Message, faults: Faults = ()) -> None:
        """Take the turn of the message, or those of its runs, and what follows from it."""
        if isinstance(message, Bundle):
            carrier = carrier_id(message.id, next(self._children))
            mine = Activity(self, lambda: take_bundle(self, message, carrier, mine), faults, "", carrier, message)
        else:
            mine = Activity(self, lambda: self.take_turn(message, mine), faults, message.run_id, message.task_id)
        self._go_on(mine, lambda activity: activity.start())

    def take_turn(self, message: Delivery, mine: Activity, bundled: BundledRuns | None = None) -> None:
        """One turn. When nobody else was at work, it has to tell what became of the run."""
        run = message.run_id
        token = bundled.token(run) if bundled is not None else None
        before = self._stands(run)
        end = take_turn(self.runtime, run, mine.must_yield, branch=message.branch, bundled=bundled)
        if not (message.branch or mine.is_dead or mine.was_stopped):
            is_others = before.status == "running" and before.token != token
            if self._stands(run).status != before.status and not is_others:
                self._check_end(run, end)

    def resume(self, activity: Activity, faults: Faults = ()) -> None:
        """Let a stopped activity go on."""
        self.stopped.remove(activity)
        self._go_on(activity, lambda activity: activity.resume(faults))

    def send_events(self, events: Sequence[Event], faults: Faults = ()) -> bool:
        """Send as a client does; False when it cannot know whether the events were accepted."""
        sent: list[str] = []
        self.do(lambda: sent.extend(send(self.runtime, events)), faults)
        return bool(sent)

    def die(self) -> None:
        """The process is killed, with all that was stopped in it."""
        self.is_dead = True
        self.bury()

    def bury(self) -> None:
        """Unwind the threads of what died while it was stopped."""
        for activity in [one for one in self.stopped if self.is_dead or one.is_dead]:
            self.resume(activity)

    def _go_on(self, activity: Activity, how: Callable[[Activity], None]) -> None:
        before, self.current = self.current, activity
        try:
            how(activity)
        except StoreUnavailable:
            # The caller hears of it; what it leaves is for recovery.
            activity.is_dead = True
        finally:
            self.current = before
        if activity.run is not None and (activity.is_dead or not activity.is_done):
            self.ledger.disturbed.update(self._held_by(activity))
        if activity.bundle is not None and activity.is_dead:
            self._broker.redeliver(activity.bundle)
        if not activity.is_done:
            self.stopped.append(activity)

    def _held_by(self, activity: Activity) -> set[str]:
        """What it is at, and what it has claimed for later."""
        found = {activity.run or ""}
        if activity.bundle is not None:
            with self.store.unlinked() as connection:
                found.update(carried_by(connection, activity.task, self.name))
        return found

    def _check_end(self, run: str, end: TurnEnd) -> None:
        """What the turn tells, Celery tells who asks."""
        now = self._stands(run).status
        # A branch that is done in passing may cancel it: Celery is told the same of both.
        if end.status != now and (end.status, now) != ("suspended", "cancelled"):
            self.ledger.trip(f"a turn tells {end.status}, and {run} is {now}")

    def _stands(self, run: str) -> Outcome:
        with self.store.unlinked() as connection:
            found = connection.runs.outcome(run)
        assert found is not None
        return found

    def _active(self) -> frozenset[str]:
        return frozenset(one.task for one in self.stopped if one.run is not None)

    # -- what handlers ask

    def now(self) -> int:
        """The clock."""
        return self._clock.now()

    def touch(self, point: str) -> None:
        """A point at which the process may be stopped or die; time passes. Of a transaction its commit alone is one,
        and nobody else is at the one connection then."""
        self._clock.turn(A_WHILE)
        if point != "before commit":
            if self.store.is_in_transaction:
                self.ledger.trip(f"{self.name} comes to {point!r} within a transaction")
            if not self.is_dead:
                self._send_late()
        if self.current is not None:
            self.current.touch(point)

    def send(self, event: Event) -> None:
        """Send from a step's body."""
        send(self.runtime, [event])

    def signal(self, name: str) -> None:
        """Send a signal with a number of its own; who takes it is told to the ledger."""
        one = Signalled(name, self.now())
        self.ledger.signals.append(one)
        one.told.append(signal(self.runtime, name, {"n": len(self.ledger.signals) - 1}))

    # -- the interceptor

    def body(self, claim: Claim, key: str, fn: Handler) -> Handler:
        """A body is about to run: its step may not be recorded, unless the turn was taken over meanwhile."""
        with self.store.unlinked() as connection:
            words = {"run": claim.run_id, "key": key, "turn": claim.turn, "token": claim.token, "path": claim.path}
            rows = connection.execute(RECORDED_IN_BRANCH if claim.path else RECORDED, **words)
        if rows:
            self.ledger.trip(f"step {key} of {claim.run_id} runs again though it is {rows[0][0]}")
        return fn

    def has_stub(self, claim: Claim, key: str) -> bool:
        """Nothing stands in the place of a step."""
        return False

    def committed(self, claim: Claim, key: str) -> None:
        """A step's record is committed."""
        self.touch("recorded")

    # -- the dispatcher

    def send_runs(self, deliveries: Sequence[Delivery]) -> None:
        """Put messages into the broker; the process may die between any two."""
        for message in packed(deliveries, self._shared.__contains__, self._broker.pack):
            self.touch("message")
            self._broker.put(message)

    def postpone(self, let_go: LetGo) -> Kept:
        """Messages that wait a moment."""
        return self._keep(let_go, A_MOMENT)

    def behind(self, let_go: LetGo) -> Kept:
        """Messages of runs that came together."""
        return self._keep(let_go, A_LITTLE_LONGER)

    def dawdle(self) -> None:
        """What a task does behind its turn takes longer than that."""
        self._clock.turn(A_LITTLE_LONGER)

    def _keep(self, let_go: LetGo, patience: int) -> Kept:
        kept = Kept(self, let_go, patience)
        self._kept.append(kept)
        return kept

    def _send_late(self) -> None:
        """As a thread of its own would."""
        for kept in self._kept:
            if kept.is_due:
                for delivery in kept.take():
                    self._broker.put(delivery)

    def run_suspended(self, run_id: str) -> bool:
        """Somebody asks for every result."""
        return True

    def run_continues(self, run_id: str, message: str | None) -> str | None:
        """Who asks for the result asks for the other's."""
        return message

    def run_cancelled(self, run_id: str, reason: str, message: str | None = None) -> None:
        """Told."""

    def run_failed(self, run_id: str, error: Exception, message: str | None = None) -> None:
        """Told."""


class NoFigures:
    """In place of the counter of what is shown."""

    def piece(self, runtime: Runtime) -> int:
        """Nothing is due."""
        return 0

    sample = forget = piece


def _flow(number: int, program: Program, process: Process, release: int) -> Flow:
    bounds = Timeouts(*(_seconds(one) for one in (program.start, program.finish)))
    definition = FlowDefinition(
        flow_name(number),
        triggers=() if program.is_child else (OnEvent(trigger_name(number)),),
        retries=program.retries,
        cancel_on=(CancelOn(program.cancel_on, match="data.of"),) if program.cancel_on else (),
        timeouts=None if bounds == Timeouts() else bounds,
        limits=limits_of(program.limits, release) if program.admits in (None, FREE) else KINDS[program.admits],
    )
    policy = RetryPolicy(program.retries)
    return Flow(definition, handler_of(program, process), policy, is_async=program.is_async)


def _seconds(number: int | None) -> timedelta | None:
    return None if number is None else timedelta(seconds=number)
