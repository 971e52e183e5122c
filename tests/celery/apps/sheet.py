"""A sheet of flows and tasks: written once, declared on the worker's app and on the app of each test.

Step bodies tell a witness outside of broker and store that they ran."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery

from celeryflows import Flows


class Sheet:
    """What an app declares."""

    def __init__(self, name: str, **options: Any) -> None:
        self._name = name
        self._options = options
        self._flows: list[tuple[Callable[..., Any], dict[str, Any]]] = []
        self._tasks: list[tuple[Callable[..., Any], dict[str, Any]]] = []
        self._triggers: list[tuple[Any, str, dict[str, Any]]] = []

    def flow(self, **options: Any) -> Callable[[Any], Any]:
        """A flow by the name of its handler."""
        return lambda fn: self._flows.append((fn, {"name": f"{self._name}.{fn.__name__}", **options})) or fn

    def task(self, **options: Any) -> Callable[[Any], Any]:
        """A plain task by the name of its function."""
        return lambda fn: self._tasks.append((fn, {"name": f"{self._name}.{fn.__name__}", **options})) or fn

    def on(self, trigger: Any, **options: Any) -> Callable[[Any], Any]:
        """What starts the plain task of this function."""
        return lambda fn: self._triggers.append((trigger, f"{self._name}.{fn.__name__}", options)) or fn

    def make(self, settings: dict[str, Any], **options: Any) -> Celery:
        """The app with its Flows."""
        app = Celery(self._name, set_as_current=False, **options)
        app.conf.update(settings)
        flows = Flows(app, **self._options)
        for fn, chosen in self._tasks:
            app.task(shared=False, **chosen)(fn)
        for fn, chosen in self._flows:
            flows.flow(fn, **chosen)
        for trigger, task, chosen in self._triggers:
            flows.on(trigger, task, **chosen)
        return app

    def worker_app(self, **options: Any) -> Celery | None:
        """The app that `celery -A` finds; None in a test's own process, which has no such environment."""
        settings = os.environ.get("APP_SETTINGS")
        return self.make(json.loads(settings), **options) if settings else None


def witness(*words: Any) -> None:
    """Write a line that no kill, rollback or retry takes back."""
    line = " ".join(str(word) for word in (*words, os.getpid())) + "\n"
    file = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def gate(name: str) -> Path:
    """The file that opens a gate."""
    return Path(f"{os.environ['WITNESS']}.{name}")


def pass_gate(name: str) -> None:
    """Stay in the step until the test opens the gate."""
    while not gate(name).exists():
        time.sleep(0.02)


def first_time(name: str) -> bool:
    """True once for all processes, whatever dies."""
    try:
        os.close(os.open(gate(name), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
