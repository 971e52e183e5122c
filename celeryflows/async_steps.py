"""The step tools of an async flow: the same as in steps.py, awaited."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from celeryflows.durations import Duration
from celeryflows.model.events import Event
from celeryflows.model.signals import Signal
from celeryflows.steps import (
    SIGNALS,
    BoundSteps,
    Failed,
    Parked,
    Result,
    SignalRequest,
    Slot,
    Value,
    WaitRequest,
    as_list,
)


class AsyncSteps(BoundSteps):
    """The step tools of an async flow: the same, awaited; `asyncio.gather` runs them at once."""

    async def run(self, id: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As `Steps.run`; a coroutine function is awaited, a sync function runs in a thread."""
        return await self._attempt(
            lambda: self._for("run", id).open(id, fn, self._options), self._journal.succeeded, args, kwargs
        )

    async def transaction(self, id: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As `Steps.transaction`; `fn` is a plain function and runs in a thread."""
        return await self._attempt(
            lambda: self._for("transaction", id).open_transaction(id, fn, self._options),
            self._journal.transacted,
            args,
            kwargs,
        )

    async def _attempt(
        self,
        look: Callable[[], Slot],
        settle: Callable[[Any, Any], Result],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        try:
            slot = look()
            result = slot.result or await self._result_of(slot, settle, args, kwargs)
        except SIGNALS as signal:
            result = self._given_up(signal)
        return await self._take(result)

    async def _result_of(
        self, slot: Slot, settle: Callable[[Any, Any], Result], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Result:
        try:
            with slot:
                raw = await _call(slot.body, args, kwargs)
        except Exception as error:
            return self._journal.failed(slot, error)
        except BaseException:
            # Cancelled by the handler's own asyncio, or gevent's Timeout and its like: no attempt of it runs any more.
            self._journal.abandoned(slot)
            raise
        return settle(slot, raw)

    async def sleep(self, id: str, duration: Duration) -> None:
        """As `Steps.sleep`."""
        await self._settle(lambda: self._for("sleep", id).sleep(id, duration))

    async def sleep_until(self, id: str, when: datetime | str) -> None:
        """As `Steps.sleep_until`."""
        await self._settle(lambda: self._for("sleep_until", id).sleep_until(id, when))

    async def wait_for_event(
        self,
        id: str,
        *,
        event: str,
        timeout: Duration,
        match: str | None = None,
        if_exp: str | None = None,
        lookback: str = "step",
    ) -> Event | None:
        """As `Steps.wait_for_event`."""
        request = WaitRequest(event, timeout, match, if_exp, lookback)
        found: Event | None = await self._settle(lambda: self._for("wait_for_event", id).wait(id, request))
        return found

    async def send_event(self, id: str, events: Event | Sequence[Event]) -> list[str]:
        """As `Steps.send_event`."""
        ids: list[str] = await self._settle(lambda: self._for("send_event", id).send(id, as_list(events)))
        return ids

    async def wait_for_signal(
        self, id: str, name: str, *, timeout: Duration, on_conflict: str = "fail"
    ) -> Signal | None:
        """As `Steps.wait_for_signal`."""
        request = SignalRequest(name, timeout, on_conflict)
        found: Signal | None = await self._settle(lambda: self._for("wait_for_signal", id).wait_for_signal(id, request))
        return found

    async def invoke(self, id: str, flow: Any, data: Any = None, timeout: Duration = "365 days") -> Any:
        """As `Steps.invoke`; `asyncio.gather` of several starts them at once."""
        return await self._settle(lambda: self._for("invoke", id).invoke(id, flow, data, timeout, self._options))

    async def task(self, id: str, signature: Any, timeout: Duration | None = None) -> Any:
        """As `Steps.task`; `asyncio.gather` of several sends them at once."""
        return await self._settle(lambda: self._for("task", id).task(id, signature, timeout, self._options))

    async def _continue_as_new(self, data: Any) -> None:
        await self._settle(lambda: self._journal.continue_as_new(data))

    async def _settle(self, tool: Callable[[], Result]) -> Any:
        try:
            result = tool()
        except SIGNALS as signal:
            result = self._given_up(signal)
        return await self._take(result)

    def _given_up(self, signal: BaseException) -> Result:
        """Nothing of the engine's is raised into a coroutine: groups and timeouts of asyncio would make it theirs."""
        self._journal.give_up(signal)
        return Parked()

    async def _take(self, result: Result) -> Any:
        if isinstance(result, Value):
            return result.value
        if isinstance(result, Failed):
            raise result.error
        return await self._journal.park()


async def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(fn):
        return await fn(*args, **kwargs)
    raw = await asyncio.to_thread(fn, *args, **kwargs)
    return await raw if inspect.isawaitable(raw) else raw
