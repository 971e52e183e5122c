"""The end of an app's finalizing: its tasks are all made. What cannot be is refused there, before anything runs."""

from contextlib import suppress
from typing import Any

from celery import _state

from celeryflows.celery_bridge.interposing import take_off
from celeryflows.celery_bridge.task_options import own_options
from celeryflows.errors import ConfigurationError


class _Last:
    """Stands at the end of the line of tasks that finalizing makes. Signals would not do: they swallow errors."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __maybe_evaluate__(self) -> None:
        if self._app._pending:
            self._app._pending.append(self)
            return
        try:
            _settle(self._app)
        except AttributeError as error:
            # Celery takes it for a task that is made already.
            raise RuntimeError(f"celeryflows: {error}") from error


def watch_apps() -> None:
    """Look at the tasks of each app of this process when it has made them."""
    _state.connect_on_app_finalize(_begins)


def _begins(app: Any) -> None:
    app._pending.append(_Last(app))


def _settle(app: Any) -> None:
    binding = getattr(app, "flows_binding", None)
    if binding is not None:
        binding.tasks.settle()
    else:
        _refuse_ours(app)


def _refuse_ours(app: Any) -> None:
    """Nobody would hold limits on tasks of an app without a Flows."""
    found = {task: ours for task in app._tasks.values() if (ours := own_options(task, sure=True))}
    if not found:
        return
    for task, ours in found.items():
        take_off(task, ours)
    refused = {task: ours for task, ours in found.items() if not _is_held_elsewhere(task)}
    if not refused:
        return
    shown = "; ".join(f"{task.name}: {', '.join(sorted(ours))}" for task, ours in refused.items())
    raise ConfigurationError(
        f"Tasks of the app {app.main!r} carry options of celeryflows ({shown}), but it has no Flows. Make one before "
        "the app is used: Flows(app)."
    )


def _is_held_elsewhere(task: Any) -> bool:
    """Celery makes a task of one app on all apps of a process: it is limited where it is called, on its own one."""
    fun = getattr(task, "_decorated_fun", None)
    return getattr(fun, "is_held", False) or any(
        _waits(app, fun) for app in _state._get_active_apps() if getattr(app, "flows_binding", None) is not None
    )


def _waits(app: Any, fun: Any) -> bool:
    """True when the app has yet to make the function's task."""
    for promise in app._pending:
        with suppress(AttributeError):
            if object.__getattribute__(promise, "_Proxy__args")[0] is fun:
                return True
    return False
