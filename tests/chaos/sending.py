"""The outside world of a round: who sends the load, who answers what waits, and who looks whether values change.

Each does its part again until the store has said yes: that is when something counts as accepted."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celeryflows import Event
from celeryflows.errors import FlowsError
from tests.chaos.arena import Arena
from tests.chaos.kinds import KINDS, Item, Load

PATIENCE = 120.0
NOW_AND_THEN = 2.0
WAITING = """
SELECT r.id, e.data, w.name FROM flows_waits w JOIN flows_runs r ON r.id = w.run_id
JOIN flows_events e ON e.id = r.event_id WHERE w.state = 'open' AND w.kind = :kind AND w.name LIKE 'load/%'
"""
STARTED = """
SELECT r.id, e.data FROM flows_runs r JOIN flows_events e ON e.id = r.event_id
WHERE r.flow = 'mixed.answered' AND r.started_at IS NOT NULL AND r.ended_at IS NULL
"""
RECORDED = "SELECT run_id, key, value, turn FROM flows_steps WHERE state = 'done' AND kind IN ('run', 'transaction')"


def insist(call: Callable[[], Any]) -> Any:
    """Call again until the store takes it."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except FlowsError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def send(arena: Arena, load: Load, items: list[Item]) -> None:
    """Events in one list, calls one by one; each belongs to the load once it was accepted."""
    events = [item for item in items if item.kind != "called"]
    if events:
        insist(lambda: arena.flows.send([item.event() for item in events]))
        load.accepted += events
    task = arena.app.tasks["mixed.called"]
    for item in items:
        if item.kind == "called":
            insist(lambda item=item: task.apply_async(kwargs=item.data, task_id=item.id))
            load.accepted.append(item)
    stops = [Event("load/stop", {"id": item.id}) for item in items if item.kind == "stopped"]
    if stops:
        insist(lambda: arena.flows.send(stops))


class Background:
    """A thread that does one thing again and again until it is told to stop; its failure is the round's."""

    def __init__(self, work: Callable[[], None], every: float) -> None:
        self._work, self._every = work, every
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Background":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE)
        self.check()

    def check(self) -> None:
        """Raise what ended the thread."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._over.wait(self._every):
                # What stands between us and the store is what the round is about.
                with suppress(FlowsError):
                    self._work()
        except BaseException as failure:
            self._failure = failure


class Sender:
    """A portion of every kind at each call, so many of them; then now and then one for as long as the fault lasts."""

    def __init__(self, arena: Arena, load: Load, portions: int) -> None:
        self._arena, self._load, self._left = arena, load, portions
        self._next = 0.0
        self.struck = False

    @property
    def is_done(self) -> bool:
        """All has been sent and accepted."""
        return self.struck and self._left <= 0

    def __call__(self) -> None:
        if not self.is_done and (self._left > 0 or time.monotonic() > self._next):
            send(self._arena, self._load, self._load.next(KINDS))
            self._left -= 1
            self._next = time.monotonic() + NOW_AND_THEN


class Answerer:
    """Answers each run once, whenever it finds it, and signals who waits for a signal."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._answered: set[str] = set()

    def __call__(self) -> None:
        for run, data in self._arena.rows(STARTED):
            if run not in self._answered:
                id = _id(data)
                self._arena.flows.send(Event("load/answer", {"id": id, "word": f"word {id}"}, id=f"answer.{id}"))
                self._answered.add(run)
        for _, _, name in self._arena.rows(WAITING, kind="signal"):
            self._arena.flows.signal(name, "woken")


class Watcher:
    """Looks at recorded values, and notes those that are not what they were."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.seen: dict[tuple[str, str], tuple[str, int]] = {}
        self.changed: list[str] = []

    def __call__(self) -> None:
        for run, key, value, turn in self._arena.rows(RECORDED):
            before = self.seen.setdefault((run, key), (value, turn))
            if before != (value, turn):
                self.changed.append(f"{run} {key!r} was {before}, is {(value, turn)}")


def _id(data: str) -> str:
    return str(json.loads(data)["id"])
