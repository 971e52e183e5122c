"""Flows: declare, send, wire the parts. No rules."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from celeryflows.alerts import install_alerts
from celeryflows.celery_bridge.canvas import canvas_handler
from celeryflows.celery_bridge.celery_class import Celery
from celeryflows.celery_bridge.declaration import Declaration
from celeryflows.celery_bridge.finalizing import watch_apps
from celeryflows.celery_bridge.triggered import read_triggered
from celeryflows.celery_bridge.wiring import Wiring, current_flows_proxy
from celeryflows.clock import Clock
from celeryflows.console import actions
from celeryflows.console.searching import all_found, wanted_runs
from celeryflows.engine.intake import send, send_within
from celeryflows.engine.replay import select_runs, start_replay
from celeryflows.engine.rerun import replay_event
from celeryflows.engine.runtime import Dispatcher, Runtime
from celeryflows.engine.signalling import signal
from celeryflows.errors import InvalidEvent
from celeryflows.handle import ReplayHandle, RunHandle
from celeryflows.middleware import Middleware, checked
from celeryflows.model.events import Event
from celeryflows.model.flows import flow_name
from celeryflows.model.replays import read_pace
from celeryflows.schemas import SchemaRegistry
from celeryflows.settings.alerts import AlertRule
from celeryflows.settings.doors import DoorSettings
from celeryflows.store.database import Store
from celeryflows.store.reports.replays import list_replays
from celeryflows.store.reports.runs import RunView


class Flows:
    """Durable flows on a Celery app.

    `app` is a Celery app, or a Flask app with one in `extensions["celery"]`; without one, what is declared is kept
    until `init_app`. `app.flows` is the Flows of any app. `middleware`: instances of Middleware, the first outermost.
    Raises ConfigurationError when the app has a Flows already, or for middleware that is none.
    """

    def __init__(self, app: Any = None, *, middleware: Sequence[Middleware] = ()) -> None:
        self._schemas = SchemaRegistry()
        self._wiring = Wiring(self, self._schemas, checked(middleware))
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Any) -> None:
        """Serve an app; again for each app that a factory makes."""
        binding = self._wiring.bind(app)
        if binding is not None:
            install_alerts(binding)

    # -- declaring

    def flow(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Declare a durable flow; bare, or with options.

        `trigger` is an event's name, OnEvent, OnCron, or a list of at most 10; `name` the Celery task name and the
        flow's identity; `label` for people; `retries` 0 to 20 (default 3) and `backoff` for each step and for the body;
        `on_failure` a handler run as flow `<name>.on_failure` after the last attempt; `output_type` a pydantic model, a
        dataclass or a type of them that the flow's value must fit; `version` names the code under which runs start;
        `record_inputs` says whether what its steps are called with is recorded too (default: `flows_record_inputs`);
        `cancel_on` an event's name, CancelOn, or a list of at most 5; `timeouts` a Timeouts; the limits `concurrency`
        a number, Concurrency, or two of them, `throttle` a Throttle, `rate_limit` a RateLimit, `debounce` a Debounce,
        `batch` a Batch, `priority` a Priority, `singleton` a Singleton, `idempotency` an expression for a key;
        every other option of `app.task` means what Celery says. Raises DeclarationError for what
        cannot be, with the remedy. Returns the flow's Celery task.
        """
        if fn is not None:
            return self._wiring.declare(Declaration(fn, options))
        return lambda handler: self._wiring.declare(Declaration(handler, options))

    def on(self, trigger: Any, task: Any, *, kwargs: Any = None, **limits: Any) -> Any:
        """Start an existing task by events: an untouched task, on its own queue, each start a run in the history.

        `trigger` as for `flow`; `task` a Celery task or its name. `kwargs` makes the task's arguments: None for
        `event.data`, a CEL expression over `event` that gives a map, or a function `event -> dict` called in the
        worker. `limits` are those of `flow`, with `cancel_on`, `timeouts` and `version`; `name` is the flow's (default:
        the task's). Plain calls of the task stay what they are. Raises DeclarationError or ExpressionError. Returns
        the task.
        """
        self._wiring.on(read_triggered(trigger, task, kwargs, limits))
        return task

    def from_canvas(self, canvas: Any, *, name: str, trigger: Any = None, **options: Any) -> Any:
        """Declare a flow that runs a Celery canvas: its value is the one that Celery gives.

        `canvas` is a signature, chain, group or chord, with maps, chunks and canvases in it as it may be; or a function
        of the event's data that makes one, called once for each run. Each signature is a step named by its task, sent
        to its own queue and workers, so that a failed run is rerun from the step that failed. `name`, `trigger` and
        `options` are those of `flow`. Raises DeclarationError. Returns the flow's Celery task.
        """
        handler = canvas_handler(canvas, name)
        return self._wiring.declare(Declaration(handler, {"name": name, "trigger": trigger, **options}))

    def event(self, name: str, model: Any, *, v: str | None = None) -> Any:
        """Register a pydantic model for an event: `send` refuses what does not fit, handlers get the model."""
        return self._schemas.register(name, model, v)

    # -- sending

    def send(
        self,
        event: Event | Sequence[Event] | str,
        data: Any = None,
        *,
        id: str | None = None,
        ts: datetime | None = None,
        v: str | None = None,
        transaction: Any = None,
    ) -> list[str]:
        """Send an event, a list of at most 5,000, or a name with its data; our ids, in order.

        When it returns, the events and every effect of them are committed. `transaction` is a SQLAlchemy Connection or
        Session on the store's database: the events then belong to it and are routed after its commit.
        Raises InvalidEvent (nothing of the list is stored) or StoreUnavailable.
        """
        events = _events(event, data, id, ts, v)
        binding = self._wiring.current
        if transaction is None:
            return send(binding.sender(), events)
        return send_within(binding.runtime, events, transaction, declare=binding.sender)

    async def asend(
        self,
        event: Event | Sequence[Event] | str,
        data: Any = None,
        *,
        id: str | None = None,
        ts: datetime | None = None,
        v: str | None = None,
    ) -> list[str]:
        """As `send`, from async views: the loop is not held."""
        return await asyncio.to_thread(self.send, event, data, id=id, ts=ts, v=v)

    def signal(self, name: str, data: Any = None) -> str | None:
        """Wake the run that waits for the signal (`ctx.step.wait_for_signal`): its id, None when none does.

        `data` is any value that can be stored. Raises InvalidEvent for a name that no event may have either,
        NotStorable, BoundExceeded or StoreUnavailable.
        """
        return signal(self.runtime, name, data)

    async def asignal(self, name: str, data: Any = None) -> str | None:
        """As `signal`, from async views: the loop is not held."""
        return await asyncio.to_thread(self.signal, name, data)

    # -- looking

    def run(self, run_id: str) -> RunHandle:
        """A handle of the run: status, value, steps, cancel, get."""
        return RunHandle(run_id, self.runtime)

    def runs(
        self,
        *,
        status: str | None = None,
        flow: str | None = None,
        after: datetime | str | None = None,
        before: datetime | str | None = None,
        event: str | None = None,
        if_exp: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> list[RunView]:
        """Runs, the newest first; `cursor` is the id of the last one of the page before.

        `after` and `before` bound when they were created: aware datetimes or ISO text with a zone; `event` is the name
        of the event that started them; `if_exp` a CEL condition over `event`, `output` and `error`.
        Raises ExpressionError, InvalidDuration, or ValueError for an unknown state.
        """
        wanted = wanted_runs(status=status, flow=flow, after=after, before=before, event=event, if_exp=if_exp)
        return all_found(self.runtime, wanted, limit=limit, cursor=cursor)

    # -- acting on many

    def cancel(
        self,
        *,
        flow: Any,
        after: datetime | str | None = None,
        before: datetime | str | None = None,
        if_exp: str | None = None,
        status: str | None = None,
        because: str = "cancelled by hand",
    ) -> int:
        """Cancel many runs of a flow (its task or name) that have not ended; how many.

        `after` and `before` bound when they were created: aware datetimes or ISO text with a zone; `if_exp` is a CEL
        condition over `event`, the one that started the run, and `error`, its body's last one; `status` asks for one
        state. They are cancelled in bounded pieces, each as `run(id).cancel()` does: called again after an outage it
        goes on. Raises UnknownFlow, ExpressionError, InvalidDuration or ValueError, and cancels nothing.
        """
        name = flow_name(flow)
        chosen = actions.select_open(self.runtime, name, after=after, before=before, if_exp=if_exp, status=status)
        return actions.cancel_many(self.runtime, chosen, because=because)

    def pause(self, flow: Any, *, cancel_running: bool = False) -> bool:
        """Pause a flow (its task or name): whatever would start it, crons too, makes a skipped run with the reason
        "paused". Runs that are there go on, or are cancelled with `cancel_running`.

        It holds for every process at once and through deploys, until `resume`. False when it was paused before.
        Raises UnknownFlow.
        """
        return actions.pause(self.runtime, flow_name(flow), cancel_running=cancel_running).changed

    def resume(self, flow: Any) -> bool:
        """Let a paused flow start again; what was skipped stays so. False when it was not. Raises UnknownFlow."""
        return actions.resume(self.runtime, flow_name(flow))

    # -- starting again

    def replay(
        self,
        flow: Any,
        *,
        after: datetime | str | None = None,
        before: datetime | str | None = None,
        status: str | Sequence[str] = "failed",
        if_exp: str | None = None,
        pace: float | str = 10,
    ) -> ReplayHandle:
        """Start the ended runs of a flow (its task or name) again, each once; a handle with the progress.

        Those made from `after` on and before `before` (aware datetimes or ISO text; default: all) that ended as
        `status`: "failed", "completed", "cancelled", "skipped" (but for duplicates), or a list; `if_exp` is a condition
        over `event`. `pace` is runs a second, or "100/m". A worker drives it on, whoever dies; while the flow is paused
        it waits. Raises UnknownFlow, ExpressionError, InvalidDuration or RerunRefused.
        """
        selection = select_runs(self.runtime, after=after, before=before, status=status, if_exp=if_exp)
        runtime = self._wiring.current.sender()
        return ReplayHandle(start_replay(runtime, flow_name(flow), selection, read_pace(pace)), runtime)

    def replays(self, limit: int = 50) -> list[ReplayHandle]:
        """Replays, the newest first."""
        return [ReplayHandle(row.id, self.runtime) for row in list_replays(self.runtime.store, limit)]

    def replay_event(self, event_id: str, flow: Any) -> RunHandle:
        """Start one flow (its task or name) with a stored event, whatever its triggers say; the run's handle.

        `event_id` is ours, as `send` gave it. Raises UnknownEvent, UnknownFlow, or RerunRefused while it is paused.
        """
        runtime = self._wiring.current.sender()
        return RunHandle(replay_event(runtime, event_id, flow_name(flow)), runtime)

    # -- wiring

    @property
    def runtime(self) -> Runtime:
        """The engine of this process."""
        return self._wiring.current.runtime

    @property
    def sender(self) -> Runtime:
        """The engine of this process for sending: the store knows the flows that are declared here."""
        return self._wiring.current.sender()

    @property
    def alert_rules(self) -> tuple[AlertRule, ...]:
        """The rules of alerts. Raises ConfigurationError."""
        return self._wiring.current.alert_rules

    @property
    def door_settings(self) -> DoorSettings:
        """The settings of what answers HTTP. Raises ConfigurationError; the store is not asked."""
        return self._wiring.current.door_settings

    def using(self, runtime: Runtime) -> AbstractContextManager[None]:
        """Put another engine in place for a block, as the test kit does."""
        return self._wiring.current.using(runtime)

    def runtime_on(self, store: Store, dispatcher: Dispatcher, clock: Clock) -> Runtime:
        """Another engine for the same flows on a store of its own, for `using`."""
        return self._wiring.current.runtime_on(store, dispatcher, clock)


def _events(
    event: Event | Sequence[Event] | str, data: Any, id: str | None, ts: datetime | None, v: str | None
) -> list[Event]:
    if isinstance(event, str):
        return [Event(event, data, id=id, ts=ts, v=v)]
    if (data, id, ts, v) != (None, None, None, None):
        raise InvalidEvent("data, id, ts and v go into Event(...); beside it they stand only after a name")
    return [event] if isinstance(event, Event) else list(event)


current_flows: Any = current_flows_proxy()
Celery.make_flows = Flows
watch_apps()
