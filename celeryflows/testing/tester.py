"""The test kit: the real engine on a store in memory, turns taken in order, time turned by hand, crashes on demand."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from datetime import datetime
from functools import partial
from typing import Any, Self

from celeryflows.app import current_flows
from celeryflows.clock import TurnedClock
from celeryflows.durations import Duration, from_datetime, parse_duration, to_datetime
from celeryflows.engine.catalog import Catalog
from celeryflows.engine.intake import send
from celeryflows.engine.registrar import register_worker
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starting import Call, call_event, start
from celeryflows.engine.turn import TurnEnd, take_turn
from celeryflows.errors import FlowsError
from celeryflows.handle import RunHandle
from celeryflows.model.events import Event
from celeryflows.model.flows import FlowDefinition, flow_name
from celeryflows.scheduler.inline import InlineDispatcher, InlineWorld
from celeryflows.store.beside import CallersBeside
from celeryflows.store.database import Store
from celeryflows.store.reports.events import runs_of_events
from celeryflows.store.reports.runs import list_runs
from celeryflows.store.user_transaction import user_transaction
from celeryflows.testing.script import Script

MOST_DUE = 20_000
MOST_RUNS = 100_000
STUCK_AFTER = 60.0

_turning: ContextVar["FlowsTester | None"] = ContextVar("celeryflows_tester", default=None)


class FlowsTester:
    """A whole world in one process, without a broker: the flows of a Flows, an engine of their own, and its clock.

    While the block lasts, whatever the flows are asked for (`flows.send`, `flow.delay`, `flows.run`), in steps and
    threads too, reaches this world. The clock starts at `at` (an aware datetime; default: the real time) and stands
    still but for `advance`. Waits between attempts are without their jitter. `engine` is a SQLAlchemy Engine on whose
    database `step.transaction` writes; default: the tester's own store.

        with FlowsTester(flows) as tester:
            run = tester.start(onboarding, Event("user/signed.up", {"user_id": "u1"}), steps={"welcome": "sent"})
            tester.advance("3 days")
    """

    def __init__(self, flows: Any = current_flows, *, at: datetime | None = None, engine: Any = None) -> None:
        self._flows = flows
        self._clock = TurnedClock(None if at is None else from_datetime(at))
        self._store = Store("sqlite://", clock=self._clock)
        self._dispatcher = InlineDispatcher()
        self._runtime: Runtime = flows.runtime_on(self._store, self._dispatcher, self._clock)
        if engine is not None:
            self._runtime.callers = CallersBeside(engine)
        self._runtime.dice = lambda: 0.0
        # Where time stands still nothing ever grows stale.
        self._runtime.catalog = Catalog(fresh_for=0)
        self._script = self._runtime.interceptor = Script(self._runtime)
        self._world = InlineWorld(self._runtime, self._dispatcher, self._clock, self._turn)
        self._declared: dict[str, FlowDefinition] | None = None
        self._lock = threading.Lock()
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._store.dispose)
            self._store.prepare()
            stack.enter_context(self._flows.using(self._runtime))
            self._declare()
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._exit.close()

    # -- acting

    def start(
        self, flow: Any, data: Any = None, /, *, steps: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> RunHandle:
        """Start a flow (its task or name) and run it and all that follows until nothing is left but to wait.

        An Event of one of the flow's triggers is routed as `send` does, and may start others too; any other Event, a
        mapping, a model or keyword arguments call the flow as `.delay()` does. `steps` stubs steps of this run.
        Raises UnknownFlow, InvalidEvent, or FlowsError when the trigger's condition is false for the event.
        """
        name = flow_name(flow)
        event = call_event(() if data is None else (data,), kwargs)
        with self._at_work():
            run_id = self._route(name, event) if self._is_trigger(name, event) else self._call(name, event)
            for step_id, stub in (steps or {}).items():
                self._script.stub(step_id, stub, run_id)
        return RunHandle(run_id, self._runtime)

    def send(self, *event: Any, **options: Any) -> list[str]:
        """Send as `flows.send` does, same arguments; what it starts or wakes is run at once. Our ids, in order."""
        with self._at_work():
            ids: list[str] = self._flows.send(*event, **options)
        return ids

    def signal(self, name: str, data: Any = None) -> str | None:
        """Signal as `flows.signal` does; the run that it wakes is run at once. Its id, None when none waits."""
        with self._at_work():
            woken: str | None = self._flows.signal(name, data)
        return woken

    def advance(self, duration: Duration, *, most: int = MOST_DUE) -> None:
        """Turn the clock: sleeps, waits, retries and crons on the way come due in order. "0s" runs what is due now.

        Raises FlowsError when more than `most` moments are due on the way.
        """
        if _turning.get() is self:
            raise FlowsError("advance is for the test; inside a flow time passes by ctx.step.sleep")
        with self._at_work():
            self._world.turn_to(self._clock.now() + parse_duration(duration), most)

    def stub(self, step_id: str, stub: Any) -> None:
        """Put a value, an exception or a callable in place of a step's body in every run.

        "c" is the step "c" alone; a repeated id is stubbed as "c:1". What `start` was given for its run goes first.
        """
        self._script.stub(step_id, stub)

    def crash_in(self, step_id: str, times: int = 1) -> None:
        """Let the worker die after the step's body and before its record; the run is recovered and goes on."""
        self._script.crash("in", step_id, times)

    def crash_after(self, step_id: str, times: int = 1) -> None:
        """Let the worker die right after the commit of the step; the run is recovered and goes on."""
        self._script.crash("after", step_id, times)

    # -- looking

    @property
    def now(self) -> datetime:
        """The clock."""
        return to_datetime(self._clock.now())

    def calls(self, step_id: str, run: RunHandle | str | None = None) -> int:
        """How often the body of a step was called, stubbed or not, over all runs or in one."""
        return self._script.calls(step_id, run.id if isinstance(run, RunHandle) else run)

    def runs(self, flow: Any = None, *, status: str | None = None) -> list[RunHandle]:
        """The runs, of a flow (its task or name) or a status if given, in the order in which they came."""
        name = None if flow is None else flow_name(flow)
        found = list_runs(self._store, flow=name, status=status, limit=MOST_RUNS)
        return [RunHandle(run.id, self._runtime) for run in sorted(found, key=lambda run: (run.created_at, run.id))]

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A SQLAlchemy Connection on the store, committed at the end of the block: to make the tables that
        `step.transaction` writes, and to look at them."""
        with user_transaction(self._store, lambda _tx: None) as transaction:
            with transaction.handed_to(lambda: None) as connection:
                yield connection
            transaction.commit()

    # -- inside

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Do something, then all that follows from it. Inside a turn the one who takes it does what follows."""
        if _turning.get() is self:
            yield
            return
        if not self._lock.acquire(timeout=STUCK_AFTER):
            raise FlowsError("the tester is at work in another thread; inside steps use flows.send and flow.delay")
        try:
            self._declare()
            yield
            self._world.run_due()
        finally:
            self._lock.release()

    def _declare(self) -> None:
        """Tests declare flows late: the store learns of them here."""
        definitions = {name: flow.definition for name, flow in self._runtime.flows.items()}
        if definitions != self._declared:
            register_worker(self._runtime)
            self._declared = definitions

    def _turn(self, runtime: Runtime, run_id: str, branch: str = "") -> TurnEnd:
        token = _turning.set(self)
        try:
            if not _loop_runs():
                return take_turn(runtime, run_id, branch=branch)
            # An async test has a loop in this thread already; an async handler gets one of its own.
            with ThreadPoolExecutor(1) as pool:
                turn = partial(take_turn, runtime, run_id, branch=branch)
                return pool.submit(copy_context().run, turn).result()
        finally:
            _turning.reset(token)
            self._script.bury()

    def _is_trigger(self, name: str, event: Event) -> bool:
        flow = self._runtime.flows.get(name)
        return flow is not None and any(trigger.matches(event.name) for trigger in flow.definition.events)

    def _call(self, name: str, event: Event) -> str:
        return start(self._runtime, Call(name, event))

    def _route(self, name: str, event: Event) -> str:
        started = runs_of_events(self._store, send(self._runtime, [event]))
        for run in started:
            if run.flow == name:
                return run.run_id
        raise FlowsError(f"The event {event.name!r} does not start {name!r}: the condition of its trigger is false.")


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
