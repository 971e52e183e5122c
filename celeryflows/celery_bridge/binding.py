"""One Flows bound to one Celery app: its flows, its runtime, and whether its worker is stopping."""

import logging
import mmap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from celery import Celery
from kombu.utils.imports import symbol_by_name

from celeryflows.celery_bridge.alarm import Alarm
from celeryflows.celery_bridge.bundling import Bundling
from celeryflows.celery_bridge.declaration import Declaration, Declared
from celeryflows.celery_bridge.dispatcher import CeleryDispatcher
from celeryflows.celery_bridge.eager import EagerWorld
from celeryflows.celery_bridge.flow_task import make_task
from celeryflows.celery_bridge.fork_gate import GATE
from celeryflows.celery_bridge.queues import CeleryQueues
from celeryflows.celery_bridge.remote_step import CeleryTasks, TasksInPlace
from celeryflows.celery_bridge.settings import (
    alert_rules,
    app_name,
    database_alias,
    door_settings,
    read_settings,
    sealer_of,
    store_url,
)
from celeryflows.celery_bridge.surroundings import surroundings
from celeryflows.celery_bridge.task_runs import TaskRuns
from celeryflows.clock import Clock, SystemClock
from celeryflows.engine.callers import is_held
from celeryflows.engine.finish import cancel
from celeryflows.engine.paces import Paces
from celeryflows.engine.registrar import register_sender
from celeryflows.engine.remote_tasks import answer
from celeryflows.engine.resume import fail_stuck
from celeryflows.engine.runtime import Dispatcher, Flow, Runtime, Schemas
from celeryflows.engine.starting import Call
from celeryflows.engine.turn import TurnEnd
from celeryflows.errors import DeclarationError, FlowsError
from celeryflows.middleware import Middleware
from celeryflows.model.remote_tasks import Outcome
from celeryflows.settings.alerts import AlertRule
from celeryflows.settings.doors import DoorSettings
from celeryflows.store.database import Store

logger = logging.getLogger("celeryflows")


class Binding:
    """What an app's flows share. The runtime is made at first use, when the app's settings are complete."""

    def __init__(self, app: Celery, schemas: Schemas, middleware: Sequence[Middleware] = ()) -> None:
        self.app = app
        self.schemas = schemas
        self.middleware = middleware
        self.flows: dict[str, Flow] = {}
        self.send_options: dict[str, dict[str, Any]] = {}
        self.tasks = TaskRuns(self)
        self._runtime: Runtime | None = None
        self._replaced = False
        self._registered: set[str] | None = None
        self._eager: EagerWorld | None = None
        self._lock = threading.RLock()
        # One byte shared with the pool's children, who never see the worker's signals.
        self._stop = mmap.mmap(-1, 1)

    # -- declaring

    def declare(self, declaration: Declaration) -> Any:
        """Check a flow, keep it, and register its task; the task."""
        name = declaration.options.get("name") or self._generated_name(declaration)
        declared = declaration.checked(name, self._base(declaration))
        for flow in filter(None, (declared.flow, declared.on_failure)):
            self._keep(flow)
        if declared.on_failure is not None:
            make_task(self, Declared(declared.on_failure, {}), declared.on_failure)
        task = make_task(self, declared, declared.flow)
        if self.app.finalized:
            self._check_names()
        return task

    def _base(self, declaration: Declaration) -> Any:
        """The task's base class. `app.Task` itself is not asked for: it is fixed at the first look."""
        return declaration.options.get("base") or vars(self.app).get("Task") or symbol_by_name(self.app.task_cls)

    def _generated_name(self, declaration: Declaration) -> str:
        handler = declaration.handler
        return str(self.app.gen_task_name(getattr(handler, "__name__", "flow"), getattr(handler, "__module__", "")))

    def _keep(self, flow: Flow) -> None:
        there = self.flows.get(flow.name)
        if there is not None and _source(there.handler) != _source(flow.handler):
            raise DeclarationError(f"Two flows are named {flow.name!r}; give one of them another name=")
        self.flows[flow.name] = flow
        self.send_options[flow.name] = dict(flow.definition.send)

    def _check_names(self) -> None:
        """Of two tasks of one name Celery keeps the first: a flow must not vanish so, and its messages run a task."""
        for name in self.flows.keys() - self.tasks.names:
            if not getattr(self.app.tasks[name], "is_flow", False):
                raise DeclarationError(f"The flow {name!r} bears the name of a task of this app; give it another name=")

    # -- the engine

    def sent_with(self, flow: str) -> Mapping[str, Any]:
        """The sending options that the flow was declared with: here, else as the store has it."""
        mine = self.send_options.get(flow)
        if mine is not None:
            return mine
        known = self._runtime.catalog.latest.flows.get(flow) if self._runtime is not None else None
        return known.send if known is not None else {}

    def task_of(self, flow: str) -> str:
        """The Celery task whose messages are the flow's turns."""
        known = self.flows[flow].definition if flow in self.flows else None
        if known is None and self._runtime is not None:
            known = self._runtime.catalog.latest.flows.get(flow)
        return (known.task if known is not None else None) or flow

    @property
    def runtime(self) -> Runtime:
        """The engine of this process. Raises ConfigurationError or StoreError when settings or store do not fit."""
        if self.is_eager:
            return self.eager().runtime
        runtime = self._runtime
        if runtime is None:
            with self._lock:
                runtime = self._runtime = self._runtime or self._make_runtime()
        return runtime

    @property
    def alert_rules(self) -> tuple[AlertRule, ...]:
        """Who is told of what. Raises ConfigurationError."""
        return alert_rules(self.app)

    @property
    def door_settings(self) -> DoorSettings:
        """Who may come in by HTTP. Raises ConfigurationError. The store is not asked."""
        return door_settings(self.app)

    def sender(self) -> Runtime:
        """The engine for sending: the store knows the flows that this process declares."""
        self._complete()
        runtime = self.runtime
        if self._registered is None or not self._registered.issuperset(self.flows):
            around = runtime.around if runtime.store.dialect.has_one_writer else None
            if around is not None and around.is_on_the_store:
                # The one writer is the caller's transaction until then.
                around.after_commit(self.sender)
                return runtime
            register_sender(runtime)
            self._registered = set(self.flows)
        return runtime

    @contextmanager
    def using(self, runtime: Runtime) -> Iterator[None]:
        """Put another engine in place, as a test kit does; eager mode gives way to it."""
        before = self._runtime, self._registered, self._replaced
        self._runtime, self._registered, self._replaced = runtime, None, True
        try:
            yield
        finally:
            self._runtime, self._registered, self._replaced = before

    def runtime_on(self, store: Store, dispatcher: Dispatcher, clock: Clock) -> Runtime:
        """Another engine for the same flows, on a store of its own."""
        self._complete()
        return Runtime(
            app_name(self.app),
            store,
            dispatcher,
            self.schemas,
            self.flows,
            settings=read_settings(self.app),
            clock=clock,
            middleware=self.middleware,
            callers=around.callers_beside(database_alias(self.app)) if (around := surroundings()) is not None else None,
            tasks=TasksInPlace(self),
        )

    def _complete(self) -> None:
        """Tasks that are flows are known when the app has made all its tasks."""
        if not self.app.finalized and self.app.autofinalize:
            self.app.finalize()

    def _make_runtime(self) -> Runtime:
        self._complete()
        self._check_names()
        settings = read_settings(self.app)
        around = surroundings()
        callers = around.callers(database_alias(self.app)) if around is not None else None
        store = Store(store_url(self.app), sealer=sealer_of(self.app))
        store.held_here = partial(is_held, store, callers)
        store.prepare()
        store.agree_on_keys()
        paces = Paces(store, SystemClock())
        bundling = Bundling(self.app, self.sent_with, self.task_of, paces.of, settings.max_bundle)
        dispatcher = CeleryDispatcher(self.app, self.sent_with, self.task_of, bundling)
        runtime = Runtime(
            app_name(self.app),
            store,
            dispatcher,
            self.schemas,
            self.flows,
            settings=settings,
            middleware=self.middleware,
            callers=callers,
            tasks=CeleryTasks(self, dispatcher.producer),
            queues=CeleryQueues(self.app),
        )
        runtime.alarm = Alarm(runtime)
        return runtime

    # -- what a flow's task asks

    def stopping(self) -> bool:
        """True once the worker shuts down: turns stop at their next step boundary."""
        return self._stop[0] != 0

    def stop(self) -> None:
        """The worker shuts down."""
        self._stop[0] = 1

    def restart(self) -> None:
        """A worker starts in this process."""
        self._stop[0] = 0

    def cancel(self, run_id: str, reason: str) -> bool:
        """Cancel a run; False when it had ended."""
        return cancel(self.runtime, run_id, reason)

    def fail(self, run_id: str, error: Exception) -> None:
        """Fail a run whose process was ended over its hard time limit. Never raises: else it is queued again."""
        try:
            with GATE:
                fail_stuck(self.runtime, run_id, error)
        except FlowsError as refused:
            logger.warning("run %s is not failed for %r: %s", run_id, error, refused)

    def makes_runs(self, task: str) -> bool:
        """True for a task whose calls become runs: a flow's, or one that is limited or durable."""
        return bool(getattr(self.app.tasks.get(task), "is_flow", False)) or self.tasks.holds(task)

    def answered(self, task_id: str, outcome: Outcome) -> bool:
        """A task that a run waits for has ended; False when it waits no more. Raises StoreError."""
        return answer(self.runtime, task_id, outcome)

    def outcome_of(self, task_id: str) -> Outcome | None:
        """How a task ended, as far as the result backend knows."""
        return self.runtime.tasks.outcome(task_id)

    @property
    def is_eager(self) -> bool:
        """True when calls run in place: Celery's `task_always_eager`."""
        return bool(self.app.conf.task_always_eager) and not self._replaced

    def eager(self) -> EagerWorld:
        """The world of eager mode, made at first use."""
        if self._eager is None:
            self._eager = EagerWorld(self.runtime_on)
        return self._eager

    def run_eagerly(self, call: Call) -> TurnEnd:
        """Run a call in place."""
        return self.eager().run(call)


def _source(handler: Callable[..., Any]) -> tuple[str, str]:
    return getattr(handler, "__module__", ""), getattr(handler, "__qualname__", "")
