"""Tasks of elsewhere: read, packed and sent as Celery's are, and worked on by somebody who knows nothing of us."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Protocol

from celeryflows.engine.lost_tasks import LostTasks
from celeryflows.engine.runtime import Runtime
from celeryflows.model.canvases import Line, Node, Parallel
from celeryflows.model.remote_tasks import Outcome, Parcel, SentTask, TaskCall
from tests.simulation.broker import SimulatedBroker
from tests.simulation.ledger import Ledger
from tests.simulation.programs import Task, boom


class Sender(Protocol):
    """The process that sends."""

    def touch(self, point: str) -> None: ...


class Elsewhere:
    """The plug of one process into the queue of tasks."""

    in_place = False

    def __init__(self, process: Sender, broker: SimulatedBroker) -> None:
        self._process = process
        self._broker = broker

    def read(self, id: str, signature: Any) -> Node:
        """The shape of a program's task."""
        assert isinstance(signature, Task)
        good, bad = (TaskCall("t", (fails,), label="t", immutable=True) for fails in (False, signature.fails))
        match signature.shape:
            case "one":
                return bad
            case "line":
                return Line((bad, good))
            case "chord":
                return Line((Parallel((good, bad)), good))

    def pack(self, call: TaskCall) -> Parcel:
        """Whether it fails."""
        return Parcel(json.dumps(call.args[0]), "elsewhere")

    def call(self, task: SentTask) -> str:
        """Nobody does here."""
        raise AssertionError("tasks of elsewhere are sent")

    def send(self, tasks: Sequence[SentTask]) -> None:
        """Put them into the queue; the process may die between any two."""
        for task in tasks:
            self._process.touch("task")
            self._broker.tasks.append(task)

    def revoke(self, task_ids: Sequence[str]) -> None:
        """They are not begun any more."""
        self._process.touch("revoke")
        self._broker.tasks[:] = [task for task in self._broker.tasks if task.id not in task_ids]

    def call_errbacks(self, call: TaskCall, task_id: str, told: str) -> None:
        """None has any."""
        raise AssertionError("no task has errbacks")

    def outcome(self, task_id: str) -> Outcome | None:
        """From the result backend."""
        return self._broker.results.get(task_id)

    def missing(self, tasks: Sequence[SentTask]) -> set[str]:
        """Nobody is at work on one for longer than an action lasts."""
        queued = {task.id for task in self._broker.tasks}
        return {task.id for task in tasks} - queued


class Watch:
    """The look after lost tasks, in place of the thread that it has elsewhere."""

    def __init__(self, runtime: Runtime) -> None:
        self._tasks = LostTasks(runtime, nullcontext(), lambda _: set())

    def start(self) -> None:
        """Look at once."""
        self._tasks.look()


def worked_on(task: SentTask, ledger: Ledger) -> Outcome:
    """The task is done: how it ended."""
    number = ledger.execute(task.id)
    if json.loads(task.text):
        return Outcome(error=json.dumps({"name": "ValueError", "message": boom(task.key)}))
    return Outcome(value=json.dumps(["did", task.key, number]))
