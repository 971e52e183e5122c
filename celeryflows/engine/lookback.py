"""From when on a wait looks: since the step before it began, which where branches run at once is one of several.

A branch of an async handler goes by its own steps, else by the one before it was started; code that joins branches
goes by the earliest of theirs."""

import asyncio
from contextvars import ContextVar
from typing import Any


class Place:
    """Behind a step that began then. `settled`: when a wait was over, until the next step is reached; `below`: when
    the first step began of the tasks that were started here."""

    __slots__ = ("began", "below", "settled", "task", "within")

    def __init__(self, within: "LookBack", task: Any, began: int, settled: int | None = None) -> None:
        self.within = within
        self.task = task
        self.began = began
        self.settled = settled
        self.below: int | None = None


_place: ContextVar[Place | None] = ContextVar("celeryflows_place", default=None)


class LookBack:
    """The steps before, of the run's main line or of one branch of a group; it begins behind one that began then."""

    __slots__ = ("_first", "_is_async")

    def __init__(self, began: int, *, is_async: bool) -> None:
        self._is_async = is_async
        self._first = Place(self, _task() if is_async else None, began)

    def handled_by(self, task: Any) -> None:
        """The task of an async handler: what it starts beside itself are branches."""
        self._first.task = task

    @property
    def here(self) -> Place:
        """Where the calling code stands."""
        found = _place.get() if self._is_async else None
        return found if found is not None and found.within is self else self._first

    @property
    def began(self) -> int:
        """When the step before began."""
        place = self.here
        if place.below is not None and place.task is _task():
            return place.below
        return place.began

    def enter(self, began: int) -> None:
        """The calling code comes to the next step."""
        settled = self.here.settled
        self._move(began if settled is None else min(began, settled))
        self.here.settled = None

    def settle(self, at: int, began: int) -> None:
        """The wait or group that the calling code came to was over then: what follows looks from there, or earlier."""
        self.here.settled = at
        self._move(min(began, at))

    def _move(self, began: int) -> None:
        place = self.here
        if not self._is_async:
            place.began = began
            return
        task = _task()
        if place.task is not task:
            place.below = began if place.below is None else min(place.below, began)
        _place.set(Place(self, task, began, place.settled))


def _task() -> Any:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
