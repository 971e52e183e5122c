"""A step's timeout: its body runs beside the handler, which waits for it no longer than that.

Nothing ends a thread from outside: what outlives its time is left running, and nobody takes its value any more."""

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from types import FrameType
from typing import Any

from celeryflows.engine.failures import stack_of

Body = Callable[..., Any]
# Makes the error of a body that outlived its time, from the place where it was and what became of it.
Overran = Callable[[str, str], Exception]
# A coroutine that is cancelled has this long for its cleanup.
GRACE = 1.0
LEFT, CANCELLED = "its thread was left running", "it was cancelled"


class _Work:
    """A call in a thread of its own, in a copy of the caller's context. The end of the process waits for none."""

    def __init__(self, call: Callable[[], Any], then: Callable[[], object]) -> None:
        self._call = call
        self._then = then
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), name="celeryflows-step", daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:
            self._error = error
        self._then()

    def outcome(self) -> Any:
        """The value, or the error raised here."""
        if self._error is not None:
            raise self._error
        return self._value

    def place(self) -> str:
        """Where it is right now. Under gevent nobody can tell."""
        inmost = sys._current_frames().get(self._thread.ident or 0)
        return stack_of(reversed([frame for frame, _ in traceback.walk_stack(inmost)])) if inmost else ""


def within(fn: Body, seconds: float, overran: Overran) -> Body:
    """The body for a sync flow."""

    def body(*args: Any, **kwargs: Any) -> Any:
        done = threading.Event()
        work = _Work(partial(fn, *args, **kwargs), done.set)
        # A signal's error, such as SoftTimeLimitExceeded, is raised out of this wait.
        if not done.wait(seconds):
            raise overran(work.place(), LEFT)
        return work.outcome()

    return body


def within_async(fn: Body, seconds: float, overran: Overran) -> Body:
    """The body for an async flow."""

    async def body(*args: Any, **kwargs: Any) -> Any:
        works: list[_Work] = []
        task = asyncio.ensure_future(_awaited(partial(fn, *args, **kwargs), works, is_async=iscoroutinefunction(fn)))
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
        except asyncio.CancelledError:
            await _cancel(task)
            raise
        if done:
            return task.result()
        error = overran(works[0].place(), LEFT) if works else overran(stack_of(_frames(task)), CANCELLED)
        await _cancel(task)
        raise error

    return body


async def _awaited(call: Callable[[], Any], works: list[_Work], *, is_async: bool) -> Any:
    if is_async:
        return await call()
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def tell() -> None:
        # The loop of a turn that is over is closed.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    works.append(_Work(call, tell))
    await done.wait()
    raw = works.pop().outcome()
    return await raw if isawaitable(raw) else raw


async def _cancel(task: "asyncio.Task[Any]") -> None:
    """What it still gives or raises is dropped."""
    task.cancel()
    await asyncio.wait({task}, timeout=GRACE)
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


def _frames(task: "asyncio.Task[Any]") -> Iterator[FrameType]:
    """Where a coroutine waits: its own frame, then those of what it awaits."""
    coroutine: Any = task.get_coro()
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        yield frame
        coroutine = coroutine.cr_await
