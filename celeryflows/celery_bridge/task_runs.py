"""The existing tasks of one app that are flows too: those that an event starts, are limited, or are durable."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from celery import Celery
from celery.app.base import Celery as App

from celeryflows.celery_bridge import flow_task
from celeryflows.celery_bridge.declaration import SENT
from celeryflows.celery_bridge.dispatcher import HEADER
from celeryflows.celery_bridge.flow_task import read_call
from celeryflows.celery_bridge.interposing import celerys, take_off, told_outside
from celeryflows.celery_bridge.result import RunResult
from celeryflows.celery_bridge.task_body import Mapper, TaskBody, again
from celeryflows.celery_bridge.task_face import TaskFace
from celeryflows.celery_bridge.task_options import (
    TaskOptions,
    check_durable,
    check_spelling,
    own_options,
    read_options,
    split_options,
)
from celeryflows.celery_bridge.triggered import Triggered, check_together
from celeryflows.engine.runtime import Flow
from celeryflows.engine.starting import start
from celeryflows.errors import DeclarationError
from celeryflows.model.calls import call_data
from celeryflows.model.events import FLOW_INVOKED, Event
from celeryflows.model.flows import FlowDefinition

SEND_TASK = inspect.signature(App.send_task)


class Host(flow_task.Host, Protocol):
    """What keeps the flows."""

    flows: dict[str, Flow]
    send_options: dict[str, dict[str, Any]]


class TaskRuns:
    """Which tasks are flows, and as what. A task may come before or after its Flows, its triggers and its app's end."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._app: Celery = host.app
        self._faces: dict[str, TaskFace] = {}
        self._options: dict[str, TaskOptions] = {}
        self._triggered: dict[str, list[Triggered]] = {}
        self._pending: list[Triggered] = []

    def install(self) -> None:
        """See each task when it is made, and each call when it is sent."""
        app: Any = self._app
        app._task_from_fun = self._make
        app.register_task = self._register
        app.send_task = self._send
        for promise in app._pending:
            # Decorated before us and not made yet.
            with suppress(AttributeError):
                object.__getattribute__(promise, "_Proxy__kwargs")
                object.__setattr__(promise, "_Proxy__local", self._make)
        if app.finalized:
            self.settle()

    def on(self, one: Triggered) -> None:
        """An event starts a task."""
        if self._app.finalized:
            self._trigger(one)
        else:
            self._pending.append(one)

    def settle(self) -> None:
        """All tasks of the app are there: those that were made without us are looked at, triggers find theirs."""
        for task in list(self._app._tasks.values()):
            self._look(task)
        pending, self._pending = self._pending, []
        for one in pending:
            self._trigger(one)

    @property
    def names(self) -> set[str]:
        """The flows that are tasks."""
        return self._options.keys() | self._triggered.keys()

    @property
    def carriers(self) -> set[str]:
        """The tasks whose messages may be turns."""
        return set(self._faces)

    def holds(self, task: str) -> bool:
        """True for a task whose plain calls become runs."""
        face = self._faces.get(task)
        return face is not None and bool(face.holds)

    # -- tasks that are made

    def _look(self, task: Any) -> None:
        """Take the options of a task that was made without us."""
        if task.name in self._options or getattr(task, "is_flow", False):
            return
        ours = own_options(task)
        if getattr(task, "_decorated", False):
            _, theirs = split_options(vars(type(task)))
            check_spelling(task.name, {key: 1 for key in theirs if not key.startswith("_")}, type(task).__mro__[1])
        if ours:
            given = set(vars(type(task)))
            options = read_options(task.name, ours)
            take_off(task, ours)
            if options is not None:
                self._hold(task, options, given)

    def _register(self, task: Any, **options: Any) -> Any:
        app: Any = self._app
        made = told_outside(lambda: celerys(app, "register_task")(task, **options))
        self._look(made)
        return made

    def _make(self, fun: Any, name: str | None = None, base: Any = None, bind: bool = False, **options: Any) -> Any:
        app: Any = self._app
        make = celerys(app, "_task_from_fun")
        task_name = name or app.gen_task_name(fun.__name__, fun.__module__)
        if options.get("is_flow"):
            return make(fun, name=name, base=base, bind=bind, **options)
        ours, theirs = split_options(options)
        if (there := app._tasks.get(task_name)) is not None:
            if ours and getattr(there, "_decorated_fun", None) is not fun:
                raise DeclarationError(f"A task or flow named {task_name!r} is there already; give one another name=")
            return told_outside(lambda: make(fun, name=name, base=base, bind=bind, **theirs))
        check_spelling(task_name, theirs, base or app.Task)
        read = read_options(task_name, ours)
        task = make(fun, name=name, base=base, bind=bind, **theirs)
        if read is not None:
            self._hold(task, read, set(theirs))
        return task

    def _hold(self, task: Any, options: TaskOptions, given: set[str]) -> None:
        if options.durable:
            check_durable(task.name, task)
        with suppress(AttributeError, TypeError):
            # Celery makes it on every app of the process; on one without a Flows it is a plain task.
            task._decorated_fun.is_held = True
        self._face(task).hold(durable=options.durable, early="acks_late" in given)
        self._options[task.name] = options
        self._declare(task.name, task)

    def _face(self, task: Any) -> TaskFace:
        face = self._faces.get(task.name)
        if face is None:
            signature = inspect.signature(task.run)
            face = self._faces[task.name] = TaskFace(self._host, task, event_of(task.name, signature))
        return face

    # -- flows

    def _trigger(self, one: Triggered) -> None:
        name = one.task if isinstance(one.task, str) else getattr(one.task, "name", None)
        task = self._app._tasks.get(name)
        if task is None:
            raise DeclarationError(f"flows.on: {one.task!r:.80} is no task of the app {self._app.main!r}.")
        if getattr(task, "is_flow", False):
            raise DeclarationError(f"flows.on: {name!r} is a flow; give it trigger= in its own declaration.")
        if one.name is not None and task.name in self._options:
            raise DeclarationError(
                f"flows.on: {name!r} has limits or is durable; its runs bear its own name, leave name= out."
            )
        flow = one.name or task.name
        ones = [*self._triggered.get(flow, ()), one]
        check_together(flow, ones, self._options.get(flow))
        self._face(task)
        self._triggered[flow] = ones
        self._declare(flow, task)

    def _declare(self, name: str, task: Any) -> None:
        """Make the flow anew, as far as all is known of it."""
        there, ones = self._host.flows.get(name), self._triggered.get(name, [])
        if there is not None and not isinstance(there.handler, TaskBody):
            raise DeclarationError(f"A flow and a task are named {name!r}; give one of them another name=")
        own = self._options.get(name)
        options = own or next((one.options for one in ones if one.options is not None), None) or TaskOptions()
        definition = FlowDefinition(
            name=name,
            label=(inspect.getdoc(self._faces[task.name].body) or "").strip().partition("\n")[0][:256],
            triggers=tuple(trigger for one in ones for trigger in one.triggers),
            retries=options.policy.retries,
            version=options.version,
            send={key: value for key in SENT if (value := task._get_exec_options().get(key)) is not None},
            cancel_on=options.cancel_on,
            timeouts=options.timeouts,
            limits=options.limits,
            task=task.name if name != task.name else None,
            mappings=tuple(one.mapping for one in ones for _ in one.triggers),
        )
        mappers: list[Mapper | None] = [one.mapper for one in ones for _ in one.triggers]
        body = TaskBody(task, self._faces[task.name].body, definition, mappers, durable=options.durable)
        self._host.flows[name] = Flow(definition, body, options.policy, again=again)
        self._host.send_options[name] = dict(definition.send)

    # -- calls

    def _send(self, name: str, *rest: Any, **options: Any) -> Any:
        """Celery's `send_task`, through which all calls go: those of limited and durable tasks become runs."""
        app: Any = self._app
        face = self._faces.get(name)
        if face is None or not face.holds or HEADER in (options.get("headers") or ()):
            return celerys(app, "send_task")(name, *rest, **options)
        call = SEND_TASK.bind(app, name, *rest, **options)
        given = {**call.arguments, **call.arguments.get("options", {})}
        return self._start(face, given)

    def _start(self, face: TaskFace, given: dict[str, Any]) -> RunResult:
        app: Any = self._app
        task = face.task
        runtime = self._host.sender()
        args, kwargs = tuple(given.get("args") or ()), given.get("kwargs") or {}
        event = face.event_of(args, kwargs)
        defaults = {**task._get_exec_options(), "ignore_result": task.ignore_result}
        chosen = {key: value for key, value in given.items() if defaults.get(key, _NONE) != value or key == "expires"}
        parent = app.current_worker_task
        if parent is not None and parent.request.id:
            chosen["root_id"] = chosen.get("root_id") or parent.request.root_id or parent.request.id
            chosen["parent_id"] = chosen.get("parent_id") or parent.request.id
        call = read_call(runtime, task.name, event, given.get("task_id"), chosen)
        result = RunResult(start(runtime, call), self._host.cancel, backend=task.backend, task_name=task.name, app=app)
        result.ignored = given.get("ignore_result", task.ignore_result)
        if parent is not None and given.get("add_to_parent", True):
            parent.add_trail(result)
        return result


_NONE = object()


def event_of(name: str, signature: inspect.Signature) -> Callable[[tuple[Any, ...], Mapping[str, Any]], Event]:
    """What the arguments of a call of the task mean."""
    return lambda args, kwargs: Event(FLOW_INVOKED, call_data(signature, args, kwargs, f"task {name!r}"))
