"""Shared flows: declared once by a reusable package, on every app that has a Flows, whenever it comes."""

from collections.abc import Callable
from typing import Any

from celery import _state
from celery.local import Proxy

from celeryflows.celery_bridge.declaration import Declaration
from celeryflows.errors import ConfigurationError

# What an app's binding is to its declarations.
Declare = Callable[[Declaration], Any]

_declarations: list[Declaration] = []


def declare_shared(app: Any, declare: Declare) -> None:
    """The app has its Flows now: it gets the shared flows that are there, and those to come.

    As with shared tasks an app that is not finalized yet waits with them, so that its own names come first.
    """
    app.flows_shared = _Receiver(declare)
    if app.finalized:
        app.flows_shared.take()
    else:
        app.on_after_finalize.connect(_take, weak=False)


def _take(sender: Any = None, **_: Any) -> None:
    sender.flows_shared.take()


class _Receiver:
    """The shared flows of one app, each declared once."""

    def __init__(self, declare: Declare) -> None:
        self._declare = declare
        self._tasks: dict[int, Any] = {}

    def take(self) -> None:
        for declaration in _declarations:
            if id(declaration) not in self._tasks:
                self._tasks[id(declaration)] = self._declare(declaration)

    def task(self, declaration: Declaration) -> Any:
        self.take()
        return self._tasks[id(declaration)]


def shared_flow(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declare a flow on every app that has a Flows, now or later, as `shared_task` does for tasks.

    Takes what `Flows.flow` takes. Returns what stands for the flow's task of the current app. Raises DeclarationError.
    """
    if fn is None:
        return lambda handler: _share(Declaration(handler, options))
    return _share(Declaration(fn, options))


def _share(declaration: Declaration) -> Any:
    if declaration.options.get("name"):
        declaration.checked(declaration.options["name"])
    _declarations.append(declaration)
    for app in _state._get_active_apps():
        if app.finalized and hasattr(app, "flows_shared"):
            app.flows_shared.take()
    return Proxy(lambda: _current_task(declaration))


def _current_task(declaration: Declaration) -> Any:
    app = _state.get_current_app()
    receiver = getattr(app, "flows_shared", None)
    if receiver is None:
        name = getattr(declaration.handler, "__name__", "flow")
        raise ConfigurationError(f"The shared flow {name!r} needs a Flows on the current app {app.main!r}: Flows(app).")
    return receiver.task(declaration)
