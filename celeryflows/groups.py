"""`ctx.group` of sync and async flows: branches that are spread over workers. A thin edge over the turn's journal."""

import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from celeryflows.steps import SIGNALS, Failed, Parked, Result, Value

PARALLEL, RACE = "parallel", "race"
Branch = Callable[[], Any]


class Mine(Protocol):
    """The one branch that this turn runs."""

    index: int

    def within(self) -> AbstractContextManager[None]:
        """What is called inside belongs to the branch."""
        ...

    def ended(self, value: Any = None, error: Exception | None = None) -> None:
        """How it ended: no step of this turn runs any more."""
        ...


class GroupJournal(Protocol):
    """What the edges ask of a turn."""

    def group(self, kind: str, count: int, name: str | None) -> Result | Mine:
        """What came of the group, the branch to run, or parked."""
        ...

    def pause(self) -> None:
        """Leave a sync handler: raises Suspend."""
        ...

    async def park(self) -> Any:
        """Stay in an async handler, not to be resumed in this turn."""
        ...

    def give_up(self, signal: BaseException) -> None:
        """A signal of the engine ended the turn."""
        ...


class Group:
    """The group tools of a sync flow, `ctx.group`."""

    def __init__(self, journal: GroupJournal) -> None:
        self._journal = journal

    def parallel(self, *branches: Branch | Iterable[Branch], name: str | None = None) -> list[Any]:
        """Run the branches at once, spread over workers; their values in order.

        `branches` are callables without arguments, such as `partial(ctx.step.run, "a", fetch, url)`, or one iterable
        of them; each may hold several steps, sleeps, waits and groups. Step ids and their counts belong to the branch.
        All branches end; then the first error by position is raised as StepError, the others are its notes. `name`
        tells groups apart in the history. Raises BoundExceeded past `flows_max_branches`.
        """
        values: list[Any] = self._take(PARALLEL, branches, name)
        return values

    def race(self, *branches: Branch | Iterable[Branch], name: str | None = None) -> tuple[int, Any]:
        """As `parallel`, until the first branch ends: its index and value, or its error.

        The others are cancelled with all that they wait for; a step of theirs that runs ends unheard.
        """
        index, value = self._take(RACE, branches, name)
        return index, value

    def _take(self, kind: str, given: tuple[Any, ...], name: str | None) -> Any:
        branches = callables(kind, given)
        found = self._journal.group(kind, len(branches), name)
        if isinstance(found, Value):
            return found.value
        if isinstance(found, Failed):
            raise found.error
        if not isinstance(found, Parked):
            self._run(found, branches)
        self._journal.pause()

    def _run(self, mine: Mine, branches: list[Branch]) -> None:
        with mine.within():
            try:
                value = branches[mine.index]()
            except Exception as error:
                mine.ended(error=error)
            else:
                mine.ended(value)


class AsyncGroup:
    """The group tools of an async flow: the same, awaited; a branch is a function, not a coroutine."""

    def __init__(self, journal: GroupJournal) -> None:
        self._journal = journal

    async def parallel(self, *branches: Branch | Iterable[Branch], name: str | None = None) -> list[Any]:
        """As `Group.parallel`; what a branch returns is awaited."""
        values: list[Any] = await self._take(PARALLEL, branches, name)
        return values

    async def race(self, *branches: Branch | Iterable[Branch], name: str | None = None) -> tuple[int, Any]:
        """As `Group.race`; what a branch returns is awaited."""
        index, value = await self._take(RACE, branches, name)
        return index, value

    async def _take(self, kind: str, given: tuple[Any, ...], name: str | None) -> Any:
        branches = callables(kind, given)
        try:
            found = self._journal.group(kind, len(branches), name)
        except SIGNALS as signal:
            # Nothing of the engine's is raised into a coroutine.
            self._journal.give_up(signal)
            return await self._journal.park()
        if isinstance(found, Value):
            return found.value
        if isinstance(found, Failed):
            raise found.error
        if not isinstance(found, Parked):
            await self._run(found, branches)
        return await self._journal.park()

    async def _run(self, mine: Mine, branches: list[Branch]) -> None:
        with mine.within():
            try:
                value = branches[mine.index]()
                value = await value if inspect.isawaitable(value) else value
            except Exception as error:
                mine.ended(error=error)
            else:
                mine.ended(value)


def callables(kind: str, given: tuple[Any, ...]) -> list[Branch]:
    """The branches as given: one by one, or in one iterable. Raises TypeError for what cannot be called."""
    branches = list(given[0]) if len(given) == 1 and isinstance(given[0], Iterable) else list(given)
    for number, branch in enumerate(branches):
        if not callable(branch):
            if inspect.iscoroutine(branch):
                branch.close()
            raise TypeError(
                f"ctx.group.{kind}: branch {number} is {branch!r:.80}, which was called already; pass a function, such "
                'as partial(ctx.step.run, "id", fn, x) or lambda: ...'
            )
    return branches
