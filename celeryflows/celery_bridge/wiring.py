"""Which apps a Flows serves: what is declared before an app is known is kept, and declared again on each."""

from collections.abc import Sequence
from typing import Any

from celery import Celery, current_app
from celery.local import Proxy

from celeryflows.celery_bridge.answers import install_answers
from celeryflows.celery_bridge.binding import Binding
from celeryflows.celery_bridge.bootstep import install
from celeryflows.celery_bridge.bundle import make_task as make_bundle_task
from celeryflows.celery_bridge.declaration import Declaration
from celeryflows.celery_bridge.shared import declare_shared
from celeryflows.celery_bridge.triggered import Triggered
from celeryflows.engine.runtime import Schemas
from celeryflows.errors import ConfigurationError
from celeryflows.middleware import Middleware


class Wiring:
    """The bindings of one Flows, and what was declared on it."""

    def __init__(self, owner: Any, schemas: Schemas, middleware: Sequence[Middleware] = ()) -> None:
        self._owner = owner
        self._schemas = schemas
        self._middleware = middleware
        self._bindings: list[Binding] = []
        self._declarations: list[Declaration] = []
        self._triggered: list[Triggered] = []
        self._tasks: dict[tuple[int, int], Any] = {}

    def bind(self, x: Any) -> Binding | None:
        """Serve a Celery app, or a Flask app with one in `extensions["celery"]`; the binding, None for an app that was
        bound before."""
        app = _celery_app(x)
        if any(binding.app is app for binding in self._bindings):
            return None
        if getattr(app, "flows", None) is not None:
            raise ConfigurationError(f"The app {app.main!r} has a Flows already; use app.flows, one Flows an app.")
        binding = Binding(app, self._schemas, self._middleware)
        self._bindings.append(binding)
        app.flows = self._owner
        install(binding)
        make_bundle_task(binding)
        install_answers(binding)
        declare_shared(app, binding.declare)
        for declaration in self._declarations:
            self._declare_on(binding, declaration)
        for one in self._triggered:
            binding.tasks.on(one)
        return binding

    def declare(self, declaration: Declaration) -> Any:
        """Declare on every app that is known, and on those to come; the task of the app at hand."""
        if declaration.options.get("name"):
            # Mistakes show where they are made, also when no app is there yet.
            declaration.checked(declaration.options["name"])
        self._declarations.append(declaration)
        for binding in self._bindings:
            self._declare_on(binding, declaration)
        if len(self._bindings) == 1:
            return self._tasks[id(self._bindings[0]), id(declaration)]
        return Proxy(lambda: self._tasks[id(self.current), id(declaration)])

    def on(self, one: Triggered) -> None:
        """Start a task of every app that is known, and of those to come, by an event."""
        self._triggered.append(one)
        for binding in self._bindings:
            binding.tasks.on(one)

    @property
    def current(self) -> Binding:
        """The binding of Celery's current app, else the one bound last. Raises ConfigurationError without any."""
        if not self._bindings:
            raise ConfigurationError("This Flows has no app yet. Give it one: Flows(app), or flows.init_app(app).")
        if len(self._bindings) > 1:
            app = current_app._get_current_object()
            for binding in self._bindings:
                if binding.app is app:
                    return binding
        return self._bindings[-1]

    def _declare_on(self, binding: Binding, declaration: Declaration) -> None:
        self._tasks[id(binding), id(declaration)] = binding.declare(declaration)


def _celery_app(x: Any) -> Any:
    app = x.extensions.get("celery") if isinstance(getattr(x, "extensions", None), dict) else x
    if isinstance(app, Celery):
        return app
    if app is None:
        raise ConfigurationError('This Flask app has no Celery app in extensions["celery"]; put it there first.')
    raise ConfigurationError(f"Flows takes a Celery app, or a Flask app with one; got {type(app).__name__}")


def current_app_flows() -> Any:
    """The Flows of Celery's current app. Raises ConfigurationError when it has none."""
    flows = getattr(current_app._get_current_object(), "flows", None)
    if flows is None:
        raise ConfigurationError(f"The current Celery app {current_app.main!r} has no Flows. Make one: Flows(app).")
    return flows


class _FlowsProxy(Proxy):
    """Without an app it still has a class, so that asking its type (inspect, mock, doctest) does not raise."""

    def _get_class(self) -> Any:
        try:
            return super()._get_class()
        except ConfigurationError:
            return _FlowsProxy


def current_flows_proxy() -> Any:
    """Stands for the Flows of the current app wherever it is used."""
    return _FlowsProxy(
        current_app_flows,
        name="current_flows",
        __doc__="The Flows of Celery's current app. Raises ConfigurationError at first use when it has none.",
    )
