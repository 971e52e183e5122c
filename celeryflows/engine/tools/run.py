"""`step.run`: called once, remembered, retried by its own counter."""

import logging
from collections.abc import Callable
from typing import Any

from celeryflows.codec import loads, roundtrip
from celeryflows.durations import SECOND, format_duration
from celeryflows.engine import telling
from celeryflows.engine.deadlines import within, within_async
from celeryflows.engine.edited import with_input
from celeryflows.engine.failures import failure_of, failure_text, is_final, step_error
from celeryflows.engine.given import remembering
from celeryflows.engine.journal import FLOW_FAULTS, JournalBase
from celeryflows.engine.slots import Slot
from celeryflows.engine.waiting import Pending
from celeryflows.errors import FlowsError, InvalidOutput, StepTimeout, Suspend
from celeryflows.middleware import StepCall, around
from celeryflows.model.step_options import StepOptions
from celeryflows.model.steps import Kind, State
from celeryflows.steps import Failed, Result, Value

logger = logging.getLogger("celeryflows")


class RunTool(JournalBase):
    """Looks steps up, opens them for an attempt, records how it ended."""

    def open(self, id: str, fn: Callable[..., Any], options: StepOptions) -> Slot:
        """Look a step up, or open it for its attempt; one that lost its worker too often fails unrun."""
        check_callable(id, fn)
        return self.open_attempt(self.enter(id, Kind.RUN, options), fn)

    def open_attempt(self, slot: Slot, fn: Callable[..., Any]) -> Slot:
        """Give the slot its remembered result, or the body of its next attempt."""
        memo = slot.memo
        if memo is not None and memo.state == State.DONE:
            self.progress.meet(memo)
            slot.result = self.value(slot, memo.value)
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
        self.leave(slot)
        try:
            text, value = self.stored(slot, raw)
        except FlowsError as error:
            return self.fail(slot, error)
        stored = self.record(slot.row(State.DONE, slot.attempts + 1, text))
        self.budget.add(text)
        return Value(value) if stored is None else self.value(slot, stored)

    def failed(self, slot: Slot, error: Exception) -> Result:
        """Plan the next attempt, or record that they are spent."""
        self.leave(slot)
        if isinstance(error, FLOW_FAULTS):
            self.end_run(error)
        policy = slot.options.policy(self.flow.policy)
        if _ends(slot, error) or slot.attempts >= policy.retries:
            return self.fail(slot, error)
        now, attempts = self.recorder.now(), slot.attempts + 1
        try:
            delay = policy.delay_after(error, attempts, now=now, dice=self.runtime.dice())
        except Exception as bad:
            return self.fail(slot, bad)
        row = slot.row(State.RETRYING, attempts, failure_text(failure_of(error, slot.key)), now + delay)
        if self.flow.is_async:
            # Other branches may run for long: the count must survive a crash until they park too.
            self.record(row)
        else:
            self.recorder.tried.append(row)
        return self.park_step(slot, Pending(row))

    def abandoned(self, slot: Slot) -> None:
        """The handler's own asyncio cancelled the attempt: it runs again when the handler comes to it again."""
        self.running -= 1
        self.ids.land(slot.id)

    def stored(self, slot: Slot, raw: Any) -> tuple[str, Any]:
        """The text to record and what it is read as. Raises NotStorable, InvalidOutput or BoundExceeded."""
        kind = slot.options.output_type
        text, value = roundtrip(raw) if kind is None else kind.write(raw, what=f"the value of step {slot.key!r}")
        self.budget.check(slot.key, text)
        return text, value

    def _read(self, slot: Slot, text: str | None) -> Any:
        kind = slot.options.output_type
        if kind is not None:
            return kind.read(text, what=f"the recorded value of step {slot.key!r}")
        return loads(text) if text is not None else None

    def value(self, slot: Slot, text: str | None) -> Result:
        """The value of a recorded text; an error when the type that it has to fit was changed."""
        try:
            return Value(self._read(slot, text))
        except InvalidOutput as error:
            return Failed(step_error(slot.key, failure_text(failure_of(error, slot.key))))

    def _open_fresh(self, slot: Slot, fn: Callable[..., Any]) -> None:
        self.check_fresh(slot)
        if slot.result is not None:
            return
        if self.charge:
            # It was lost with its worker, more than once at this point: each loss after the first counts as an attempt.
            slot.attempts, self.charge = slot.attempts + self.charge, 0
            if slot.attempts > slot.options.policy(self.flow.policy).retries:
                lost = RuntimeError("the worker died each time while this step ran (out of memory, kill, crash)")
                slot.result = self.fail(slot, lost, attempts=slot.attempts)
                return
        interceptor = self.runtime.interceptor
        claim, middleware = self.recorder.claim, self.runtime.middleware
        body = fn if interceptor is None else interceptor.body(claim, slot.key, fn)
        if self.records_inputs:
            body = remembering(slot, body, ours=1 if slot.kind is Kind.TRANSACTION else 0)
        if middleware:
            body = around(middleware, StepCall(claim.run_id, claim.flow, slot.key, slot.attempts, body))
        if self.edited and slot.key in self.edited:
            body = with_input(body, self.edited[slot.key], ours=1 if slot.kind is Kind.TRANSACTION else 0)
        timeout = slot.options.timeout
        slot.body = body if timeout is None else self._bounded(slot, body, timeout)
        telling.began(claim, slot.key, slot.kind, slot.attempts)
        self.running += 1
        self.ids.take_off(slot.id)

    def _bounded(self, slot: Slot, body: Callable[..., Any], timeout: int) -> Callable[..., Any]:
        run_id, key, lasting = self.recorder.claim.run_id, slot.key, format_duration(timeout)

        def overran(stack: str, left: str) -> StepTimeout:
            logger.warning("step %r of run %s gave no value within %s; %s", key, run_id, lasting, left)
            return StepTimeout(key, StepTimeout.__name__, f"no value within {lasting}; {left}", stack)

        bound = within_async if self.flow.is_async else within
        return bound(body, timeout / SECOND, overran)

    def leave(self, slot: Slot) -> None:
        """The attempt is over. Raises Suspend when the turn is."""
        self.abandoned(slot)
        if self.paused:
            raise Suspend


def _ends(slot: Slot, error: Exception) -> bool:
    """A StepError of another step is final; an own timeout is tried again like any failed attempt."""
    return is_final(error) and not (isinstance(error, StepTimeout) and error.step_id == slot.key)


def check_callable(id: str, fn: object) -> None:
    """Raise TypeError for what cannot be called, with what to give."""
    if isinstance(fn, dict):
        raise TypeError(
            f"step {id!r} was given a signature: step.task({id!r}, signature) sends it to its own workers; to call the "
            f"task in place, pass it itself: step.run({id!r}, task, ...)"
        )
    if not callable(fn):
        raise TypeError(f"step {id!r}: {fn!r} is not callable; pass the function and its arguments, not its value")
