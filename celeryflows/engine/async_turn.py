"""Running an async handler for one turn: until it returns, or until all that is left waits for a later turn.

Nothing is raised into the user's coroutines: what is parked is simply not resumed in this turn."""

import asyncio
import selectors
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from typing import Any

from celeryflows.engine.conclusion import Conclusion
from celeryflows.engine.turn_journal import TurnJournal
from celeryflows.errors import LostTurn, Suspend, TurnCancelled

# Beside parked steps a handler may await a short timer or a socket of its own: this long the turn waits for them.
GRACE = 1.0
# How a coroutine may end that is left.
LEFT = (Exception, BaseExceptionGroup, GeneratorExit, asyncio.CancelledError, Suspend, LostTurn, TurnCancelled)


# One loop runs in a thread of the system at a time: gevent's turns share one, and take their turns here.
_LOOPS: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)


class _Quiet(BaseException):
    """The loop has nothing left to do but wait for what is parked."""


class _Selector(selectors.DefaultSelector):
    """Tells quiet: it is asked to block while steps are parked and none runs."""

    journal: TurnJournal
    is_armed = False

    def select(self, timeout: float | None = None) -> Any:
        """Wait for I/O, or leave the loop when only parked steps are left."""
        if self.is_armed and self.journal.over and timeout != 0:
            raise _Quiet
        if not self.is_armed or not self.journal.is_parked or self.journal.running or timeout == 0:
            return super().select(timeout)
        # The loop's own wake-up pipe is always registered.
        alone = timeout is None and len(self.get_map()) <= 1
        events = super().select(0 if alone else min(GRACE, GRACE if timeout is None else timeout))
        if events or (timeout is not None and timeout <= GRACE):
            return events
        raise _Quiet


def run_async(handler: Coroutine[Any, Any, Any], journal: TurnJournal) -> Conclusion:
    """Run the handler's coroutine on a loop of its own."""
    selector = _Selector()
    selector.journal = journal
    loop = journal.loop = asyncio.SelectorEventLoop(selector)
    loop.set_exception_handler(lambda _loop, _context: None)
    task = loop.create_task(handler)
    journal.looks.handled_by(task)
    alone = _LOOPS[threading.get_native_id()]
    alone.acquire()
    try:
        selector.is_armed = True
        return Conclusion(value=loop.run_until_complete(task))
    except (_Quiet, Suspend):
        return Conclusion(parked=True)
    except Exception as error:
        return Conclusion(error=error)
    finally:
        selector.is_armed = False
        # From here on no step of this turn runs, whatever the coroutines' finally blocks do.
        ended, journal.paused, journal.closing = task.done(), True, True
        _drop(loop, task)
        alone.release()
        journal.paused = not ended


def _drop(loop: asyncio.AbstractEventLoop, handler: "asyncio.Task[Any]") -> None:
    """Leave every coroutine where it stands: its cleanups run and are awaited, the code behind does not go on."""
    branches = asyncio.all_tasks(loop)
    try:
        if branches:
            closing = loop.create_task(_close(sorted(branches, key=lambda task: task is handler)))
            loop.run_until_complete(asyncio.wait({closing}, timeout=GRACE))
            if not closing.done():
                closing.cancel()
                loop.run_until_complete(asyncio.wait({closing}, timeout=GRACE / 10))
        loop.run_until_complete(loop.shutdown_asyncgens())
    except LEFT:
        pass
    finally:
        loop.close()


async def _close(tasks: "Iterable[asyncio.Task[Any]]") -> None:
    for task in tasks:
        with suppress(*LEFT):
            await _Closing(task.get_coro())


class _Closing:
    """Awaits a coroutine's end after GeneratorExit. Its own `close()` would refuse a cleanup that awaits."""

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, None]:
        step: Callable[[Any], Any] = self._coroutine.throw
        sent: Any = GeneratorExit()
        with suppress(StopIteration):
            while True:
                awaited = step(sent)
                try:
                    step, sent = self._coroutine.send, (yield awaited)
                except (Exception, asyncio.CancelledError) as error:
                    step, sent = self._coroutine.throw, error
