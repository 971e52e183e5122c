"""The journal of one turn: what is remembered is given back, what is fresh is run and recorded under the fence."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from celeryflows.codec import loads, roundtrip
from celeryflows.durations import Duration, parse_bounded, parse_moment
from celeryflows.engine.budget import ValueBudget
from celeryflows.engine.failures import failure_of, failure_text, is_final, step_error
from celeryflows.engine.progress import Progress
from celeryflows.engine.recording import Recorder
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.slots import Slot, StepIds
from celeryflows.engine.waiting import Pending, wait_spec
from celeryflows.errors import (
    FlowsError,
    LostTurn,
    NondeterminismError,
    StepMisuse,
    Suspend,
    TurnCancelled,
)
from celeryflows.ids import derived_id, seeded_ids
from celeryflows.model.events import Event
from celeryflows.model.steps import Kind, Memo, State
from celeryflows.steps import Failed, Parked, Result, Value, WaitRequest
from celeryflows.store.steps import StepRow

FLOW_FAULTS = (StepMisuse, NondeterminismError)


class TurnJournal:
    """Implements the step tools' Journal for one turn of one run."""

    def __init__(self, runtime: Runtime, flow: Flow, recorder: Recorder, memos: dict[str, Memo]) -> None:
        self.runtime = runtime
        self.flow = flow
        self.recorder = recorder
        self.memos = memos
        self.pending: list[Pending] = []
        self.doom: FlowsError | None = None
        self.gone: LostTurn | TurnCancelled | None = None
        self.paused = False
        self.closing = False
        self.yielding = False
        self.running = 0
        self._ids = StepIds(runtime.settings.max_steps)
        self._budget = ValueBudget(runtime.settings, (memo.value for memo in memos.values()))
        self._previous_began = recorder.claim.started_at
        self._settled: int | None = None
        self._charge = max(0, recorder.claim.lost - 1)
        claim = recorder.claim
        again = claim.attempt > 0 or claim.lost > 0
        self._progress = Progress(memos, first=claim.turn == 1 and not recorder.looked, again=again)

    # -- what a context asks

    @property
    def replaying(self) -> bool:
        """True where an earlier turn was already."""
        return self._progress.replaying

    @property
    def attempt(self) -> int:
        """0-based attempt of the step at hand, else of the body."""
        slot = Slot.around(self.recorder)
        return slot.attempts if slot is not None else self.recorder.claim.attempt

    # -- the step tools

    def open(self, id: str, fn: Callable[..., Any]) -> Slot:
        """Look a step up, or open it for its attempt; one that lost its worker too often fails unrun."""
        _check_callable(id, fn)
        slot = self._enter(id, Kind.RUN)
        memo = slot.memo
        if memo is not None and memo.state == State.DONE:
            self._progress.meet(memo)
            slot.result = Value(loads(memo.value) if memo.value is not None else None)
        elif memo is not None and memo.state == State.FAILED:
            self._progress.meet(memo)
            slot.result = Failed(step_error(slot.key, memo.value))
        elif memo is not None and memo.due_at is not None and memo.due_at > self.recorder.now():
            slot.result = self._park(slot, Pending(slot.row(State.RETRYING, memo.attempts, memo.value, memo.due_at)))
        else:
            self._open_fresh(slot, fn)
        return slot

    def succeeded(self, slot: Slot, raw: Any) -> Result:
        """Record the attempt's value: one statement, one commit."""
        self._leave(slot)
        try:
            text, value = roundtrip(raw)
            self._budget.check(slot.key, text)
        except FlowsError as error:
            return self._fail(slot, error)
        stored = self._record(slot.row(State.DONE, slot.attempts + 1, text))
        self._budget.add(text)
        return Value(value if stored is None else loads(stored))

    def failed(self, slot: Slot, error: Exception) -> Result:
        """Plan the next attempt, or record that they are spent."""
        self._leave(slot)
        if isinstance(error, FLOW_FAULTS):
            self._doom(error)
        if is_final(error) or slot.attempts >= self.flow.policy.retries:
            return self._fail(slot, error)
        now, attempts = self.recorder.now(), slot.attempts + 1
        try:
            delay = self.flow.policy.delay_after(error, attempts, now=now, dice=self.runtime.dice())
        except Exception as bad:
            return self._fail(slot, bad)
        row = slot.row(State.RETRYING, attempts, failure_text(failure_of(error, slot.key)), now + delay)
        if self.flow.is_async:
            # Other branches may run for long: the count must survive a crash until they park too.
            self._record(row)
        return self._park(slot, Pending(row))

    def sleep(self, id: str, duration: Duration) -> Result:
        """Sleep for a duration, counted from the first time the handler came here."""
        most = self.runtime.settings.max_wait
        return self._sleep(id, lambda now: now + parse_bounded(duration, what=f"sleep {id!r}", least=1000, most=most))

    def sleep_until(self, id: str, when: datetime | str) -> Result:
        """Sleep until a moment."""

        def due(now: int) -> int:
            at, most = parse_moment(when, f"sleep_until {id!r}"), self.runtime.settings.max_wait
            parse_bounded(timedelta(microseconds=max(at - now, 0)), what=f"sleep_until {id!r}", least=0, most=most)
            return at

        return self._sleep(id, due)

    def wait(self, id: str, request: WaitRequest) -> Result:
        """Wait for an event: remembered, or parked until it comes or the time is out."""
        previous = self._previous_began
        slot = self._enter(id, Kind.WAIT)
        memo, now = slot.memo, self.recorder.now()
        if memo is not None and memo.wait == "answered" and memo.event is not None:
            self._progress.meet(memo)
            self._settle(slot, memo)
            return Value(self.runtime.schemas.read(memo.event))
        if memo is not None and memo.wait in ("expired", "closed"):
            self._progress.meet(memo)
            self._settle(slot, memo)
            return Value(None)
        self._check_fresh(slot)
        spec = wait_spec(
            slot.key, request, self.recorder.claim, previous=previous, now=now, settings=self.runtime.settings
        )
        due = memo.due_at if memo is not None and memo.due_at is not None else now + spec.timeout
        return self._park(slot, Pending(slot.row(State.WAITING, 0, None, due), spec, armed=memo is not None))

    def send(self, id: str, events: Sequence[Event]) -> Result:
        """Send events and record the step in one transaction: once, and never by a zombie."""
        slot = self._enter(id, Kind.SEND)
        if slot.memo is not None and slot.memo.value is not None:
            self._progress.meet(slot.memo)
            return Value(loads(slot.memo.value))
        self._check_fresh(slot)
        if slot.result is not None:
            return slot.result
        slot.start()
        seed = derived_id("send", self.recorder.claim.run_id, slot.key).encode()
        ids = list(islice(seeded_ids(slot.began // 1000, seed), len(events)))
        text, value = roundtrip(ids)
        try:
            self.recorder.send(events, ids, slot.row(State.DONE, 1, text))
        except (LostTurn, TurnCancelled) as signal:
            self.give_up(signal)
            raise
        return Value(value)

    def pause(self) -> None:
        """Leave a sync handler. From here on no step of this turn runs."""
        self.paused = True
        raise Suspend

    async def park(self) -> Any:
        """Stay in an async handler for the rest of the turn: nothing is raised, the coroutine is not resumed."""
        if self.closing:
            raise Suspend
        await asyncio.get_running_loop().create_future()

    def give_up(self, signal: BaseException) -> None:
        """The turn is over, whoever swallows its signal: no step of it runs any more."""
        if isinstance(signal, LostTurn | TurnCancelled):
            self.gone = self.gone or signal
        self.paused = True

    @property
    def over(self) -> bool:
        """True when it does not matter any more what the handler does."""
        return self.doom is not None or self.gone is not None

    # -- inside

    def _enter(self, id: str, kind: Kind) -> Slot:
        if self.paused:
            raise Suspend
        try:
            self._ids.check(id, Slot.around(self.recorder), alone=self.flow.is_async)
            key = self._ids.key(id)
            memo = self.memos.get(key)
            if memo is not None and memo.kind != kind:
                raise NondeterminismError(
                    f"step {key!r} was recorded as a {memo.kind!r} step and is now a {kind.value!r} step; give the new "
                    "one another id"
                )
        except FLOW_FAULTS as error:
            self._doom(error)
        slot = Slot(self.recorder, id, key, kind, memo)
        self._previous_began = slot.began if self._settled is None else min(slot.began, self._settled)
        self._settled = None
        return slot

    def _settle(self, slot: Slot, memo: Memo) -> None:
        """A wait is over: the wait that follows, at once or after a step, looks from there, or a loop would miss
        what came after this wait's event and before its turn."""
        if memo.settled_at is not None:
            self._settled = memo.settled_at
            self._previous_began = min(slot.began, memo.settled_at)

    def _open_fresh(self, slot: Slot, fn: Callable[..., Any]) -> None:
        self._check_fresh(slot)
        if slot.result is not None:
            return
        if self._charge:
            # It was lost with its worker, more than once at this point: each loss after the first counts as an attempt.
            slot.attempts, self._charge = slot.attempts + self._charge, 0
            if slot.attempts > self.flow.policy.retries:
                lost = RuntimeError("the worker died each time while this step ran (out of memory, kill, crash)")
                slot.result = self._fail(slot, lost, attempts=slot.attempts)
                return
        interceptor = self.runtime.interceptor
        slot.body = fn if interceptor is None else interceptor.body(self.recorder.claim, slot.key, fn)
        self.running += 1
        self._ids.take_off(slot.id)

    def _check_fresh(self, slot: Slot) -> None:
        """At a step that is not remembered: hand the turn back when the worker stops or the turn has had its time."""
        if self.recorder.must_yield():
            self.yielding = True
            if not self.flow.is_async:
                self.pause()
            slot.result = Parked()
        self._progress.begin(slot.key)

    def _sleep(self, id: str, due_of: Callable[[int], int]) -> Result:
        slot = self._enter(id, Kind.SLEEP)
        now = self.recorder.now()
        due = slot.memo.due_at if slot.memo is not None and slot.memo.due_at is not None else due_of(now)
        if due <= now:
            if slot.memo is not None:
                self._progress.meet(slot.memo)
            return Value(None)
        self._check_fresh(slot)
        return self._park(slot, Pending(slot.row(State.WAITING, 0, None, due)))

    def abandoned(self, slot: Slot) -> None:
        """The handler's own asyncio cancelled the attempt: it runs again when the handler comes to it again."""
        self.running -= 1
        self._ids.land(slot.id)

    def _leave(self, slot: Slot) -> None:
        self.abandoned(slot)
        if self.paused:
            raise Suspend

    def _record(self, row: StepRow) -> str | None:
        try:
            return self.recorder.record(row)
        except (LostTurn, TurnCancelled) as signal:
            self.give_up(signal)
            raise

    def _fail(self, slot: Slot, error: BaseException, attempts: int | None = None) -> Result:
        text = failure_text(failure_of(error, slot.key))
        stored = self._record(slot.row(State.FAILED, attempts or slot.attempts + 1, text))
        failed = step_error(slot.key, stored or text)
        failed.__cause__ = error
        return Failed(failed)

    def _park(self, slot: Slot, pending: Pending) -> Result:
        self.pending.append(pending)
        # For the rest of the turn the id is taken, as that of a running step is.
        self._ids.take_off(slot.id)
        return Parked()

    def _doom(self, error: FlowsError) -> None:
        """The handler's own mistake ends the run, whatever it catches."""
        self.doom = self.doom or error
        self.paused = True
        raise Suspend from error


def _check_callable(id: str, fn: object) -> None:
    if isinstance(fn, dict):
        raise TypeError(
            f"step {id!r} was given a signature; pass the task itself: step.run({id!r}, task, ...), called in place"
        )
    if not callable(fn):
        raise TypeError(f"step {id!r}: {fn!r} is not callable; pass the function and its arguments, not its value")
