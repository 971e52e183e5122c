"""`step.run`: called once, remembered, retried by its own counter."""

from collections.abc import Callable
from typing import Any

from celeryflows.codec import loads, roundtrip
from celeryflows.engine.failures import failure_of, failure_text, is_final, step_error
from celeryflows.engine.journal import FLOW_FAULTS, JournalBase
from celeryflows.engine.slots import Slot
from celeryflows.engine.waiting import Pending
from celeryflows.errors import FlowsError, Suspend
from celeryflows.model.steps import Kind, State
from celeryflows.steps import Failed, Result, Value


class RunTool(JournalBase):
    """Looks steps up, opens them for an attempt, records how it ended."""

    def open(self, id: str, fn: Callable[..., Any]) -> Slot:
        """Look a step up, or open it for its attempt; one that lost its worker too often fails unrun."""
        _check_callable(id, fn)
        slot = self.enter(id, Kind.RUN)
        memo = slot.memo
        if memo is not None and memo.state == State.DONE:
            self.progress.meet(memo)
            slot.result = Value(loads(memo.value) if memo.value is not None else None)
        elif memo is not None and memo.state == State.FAILED:
            self.progress.meet(memo)
            slot.result = Failed(step_error(slot.key, memo.value))
        elif memo is not None and memo.due_at is not None and memo.due_at > self.recorder.now():
            slot.result = self.park_step(
                slot, Pending(slot.row(State.RETRYING, memo.attempts, memo.value, memo.due_at))
            )
        else:
            self._open_fresh(slot, fn)
        return slot

    def succeeded(self, slot: Slot, raw: Any) -> Result:
        """Record the attempt's value: one statement, one commit."""
        self._leave(slot)
        try:
            text, value = roundtrip(raw)
            self.budget.check(slot.key, text)
        except FlowsError as error:
            return self.fail(slot, error)
        stored = self.record(slot.row(State.DONE, slot.attempts + 1, text))
        self.budget.add(text)
        return Value(value if stored is None else loads(stored))

    def failed(self, slot: Slot, error: Exception) -> Result:
        """Plan the next attempt, or record that they are spent."""
        self._leave(slot)
        if isinstance(error, FLOW_FAULTS):
            self.end_run(error)
        if is_final(error) or slot.attempts >= self.flow.policy.retries:
            return self.fail(slot, error)
        now, attempts = self.recorder.now(), slot.attempts + 1
        try:
            delay = self.flow.policy.delay_after(error, attempts, now=now, dice=self.runtime.dice())
        except Exception as bad:
            return self.fail(slot, bad)
        row = slot.row(State.RETRYING, attempts, failure_text(failure_of(error, slot.key)), now + delay)
        if self.flow.is_async:
            # Other branches may run for long: the count must survive a crash until they park too.
            self.record(row)
        return self.park_step(slot, Pending(row))

    def abandoned(self, slot: Slot) -> None:
        """The handler's own asyncio cancelled the attempt: it runs again when the handler comes to it again."""
        self.running -= 1
        self.ids.land(slot.id)

    def _open_fresh(self, slot: Slot, fn: Callable[..., Any]) -> None:
        self.check_fresh(slot)
        if slot.result is not None:
            return
        if self.charge:
            # It was lost with its worker, more than once at this point: each loss after the first counts as an attempt.
            slot.attempts, self.charge = slot.attempts + self.charge, 0
            if slot.attempts > self.flow.policy.retries:
                lost = RuntimeError("the worker died each time while this step ran (out of memory, kill, crash)")
                slot.result = self.fail(slot, lost, attempts=slot.attempts)
                return
        interceptor = self.runtime.interceptor
        slot.body = fn if interceptor is None else interceptor.body(self.recorder.claim, slot.key, fn)
        self.running += 1
        self.ids.take_off(slot.id)

    def _leave(self, slot: Slot) -> None:
        self.abandoned(slot)
        if self.paused:
            raise Suspend


def _check_callable(id: str, fn: object) -> None:
    if isinstance(fn, dict):
        raise TypeError(
            f"step {id!r} was given a signature; pass the task itself: step.run({id!r}, task, ...), called in place"
        )
    if not callable(fn):
        raise TypeError(f"step {id!r}: {fn!r} is not callable; pass the function and its arguments, not its value")
