"""What all step tools of a turn share: the memos, the ids in flight, and how a step is entered, recorded and parked."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celeryflows.engine.budget import ValueBudget
from celeryflows.engine.failures import failure_of, failure_text, step_error
from celeryflows.engine.lookback import LookBack
from celeryflows.engine.progress import Progress
from celeryflows.engine.recording import Recorder
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.slots import Slot, StepIds
from celeryflows.engine.successors import Successor
from celeryflows.engine.waiting import Pending
from celeryflows.errors import (
    FlowsError,
    LostTurn,
    NondeterminismError,
    PayloadLocked,
    StepMisuse,
    StoreUnavailable,
    Suspend,
    TurnCancelled,
)
from celeryflows.model.reruns import StepInput
from celeryflows.model.step_options import PLAIN, StepOptions
from celeryflows.model.steps import Kind, Memo, Memos, State, check_key
from celeryflows.steps import Failed, Parked, Result
from celeryflows.store.steps import StepRow

logger = logging.getLogger("celeryflows")
FLOW_FAULTS = (StepMisuse, NondeterminismError)


class JournalBase:
    """One turn of one run, under the tools of engine/tools."""

    def __init__(self, runtime: Runtime, flow: Flow, recorder: Recorder, memos: dict[str, Memo]) -> None:
        self.runtime = runtime
        self.flow = flow
        self.recorder = recorder
        self.memos = memos
        # What other branches did, where it came with the memos.
        self.elsewhere = memos.elsewhere if isinstance(memos, Memos) else None
        self.pending: list[Pending] = []
        self.doom: FlowsError | None = None
        self.gone: LostTurn | TurnCancelled | PayloadLocked | StoreUnavailable | None = None
        self.successor: Successor | None = None
        self.paused = False
        self.closing = False
        self.yielding = False
        self.running = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.joined: set[str] = set()
        self.ids = StepIds(runtime.settings.max_steps)
        self.budget = ValueBudget(runtime.settings, (memo.value for memo in memos.values()))
        self.looks = LookBack(recorder.claim.started_at, is_async=flow.is_async)
        self.charge = max(0, recorder.claim.lost - 1)
        claim = recorder.claim
        self.edited: Mapping[str, StepInput] = {}
        recorded = flow.record_inputs
        self.records_inputs = runtime.settings.record_inputs if recorded is None else recorded
        fresh = claim.turn == 1 and not recorder.looked
        # A rerun's first turn may have memos: what follows the last of them is its own.
        again = claim.attempt > 0 or claim.lost > 0 or (fresh and bool(memos))
        known = {key: memo for key, memo in memos.items() if memo.state != State.EDITED} if fresh else memos
        self.progress = Progress(known, first=fresh and not known, again=again)

    # -- what a context asks

    @property
    def replaying(self) -> bool:
        """True where an earlier turn was already."""
        return self.progress.replaying

    @property
    def attempt(self) -> int:
        """0-based attempt of the step at hand, else of the body."""
        slot = Slot.around(self.recorder)
        return slot.attempts if slot is not None else self.recorder.claim.attempt

    @property
    def max_attempts(self) -> int:
        """How many attempts the step at hand has, else the body."""
        slot = Slot.around(self.recorder)
        return (slot.options.policy(self.flow.policy) if slot is not None else self.flow.policy).retries + 1

    def pause(self) -> None:
        """Leave a sync handler. From here on no step of this turn runs."""
        self.paused = True
        raise Suspend

    async def park(self) -> Any:
        """Stay in an async handler for the rest of the turn: nothing is raised, the coroutine is not resumed."""
        loop = asyncio.get_running_loop()
        if self.closing or loop is not self.loop:
            # In a loop of the user's own, inside a step, nobody would ever leave it.
            raise Suspend
        await loop.create_future()

    def give_up(self, signal: BaseException) -> None:
        """The turn is over, whoever swallows its signal: no step of it runs any more."""
        if isinstance(signal, LostTurn | TurnCancelled | PayloadLocked | StoreUnavailable):
            self.gone = self.gone or signal
        self.paused = True

    @contextmanager
    def at_the_store(self) -> Iterator[None]:
        """What the store says here ends the turn, whatever the handler catches: it is another's, it was cancelled, or
        the store is away for longer than its patience, for which the run is not to blame."""
        try:
            yield
        except (LostTurn, TurnCancelled) as signal:
            self.give_up(signal)
            raise
        except (PayloadLocked, StoreUnavailable) as away:
            self.give_up(away)
            raise Suspend from away

    @property
    def own_memos(self) -> Iterable[Memo]:
        """What the unit of this turn did itself."""
        return self.memos.values()

    @property
    def is_parked(self) -> bool:
        """True when code waits that this turn does not resume."""
        return self.paused or self.yielding or bool(self.pending)

    @property
    def over(self) -> bool:
        """True when it does not matter any more what the handler does."""
        return self.doom is not None or self.gone is not None or self.successor is not None

    # -- what the tools stand on

    def check_options(self, tool: str, id: str, options: StepOptions) -> None:
        """End the run when the tool does not take one of the options."""
        if self.paused:
            raise Suspend
        try:
            options.check_for(tool, id)
        except StepMisuse as error:
            self.end_run(error)

    @property
    def previous_began(self) -> int:
        """When the step before began: from then on a wait looks."""
        return self.looks.began

    def enter(self, id: str, kind: Kind, options: StepOptions = PLAIN) -> Slot:
        """Take the next use of the id. Raises Suspend when the turn is over, or when the id is misused."""
        if self.paused:
            raise Suspend
        try:
            self.ids.check(id, Slot.around(self.recorder), alone=self.flow.is_async)
            key = self.ids.key(id)
            memo = self.memos.get(key)
            if memo is not None and memo.kind != kind:
                raise _other_kind(key, memo.kind, kind)
        except FLOW_FAULTS as error:
            self.end_run(error)
        slot = Slot(self.recorder, id, key, kind, memo, options)
        self.looks.enter(slot.began)
        return slot

    def enter_member(self, key: str, kind: Kind, options: StepOptions) -> Slot:
        """Stand at a part of a step, whose whole key is known: its id is no use of another's."""
        if self.paused:
            raise Suspend
        self.ids.spend(1)
        memo = self.memos.get(check_key(key))
        if memo is not None and memo.kind != kind:
            self.end_run(_other_kind(key, memo.kind, kind))
        slot = Slot(self.recorder, key, key, kind, memo, options)
        self.looks.enter(slot.began)
        return slot

    def check_fresh(self, slot: Slot) -> None:
        """At a step that is not remembered: hand the turn back when the worker stops or the turn has had its time."""
        self._check_alone(slot.key)
        if self.ids.nears:
            self._warn_of_the_bound()
        if self.recorder.must_yield():
            self.yielding = True
            if not self.flow.is_async:
                self.pause()
            slot.result = Parked()
        self.progress.begin(slot.key)

    def _warn_of_the_bound(self) -> None:
        """While there is time to do something; in the turn that does this step, not in those that pass it by."""
        claim, ids = self.recorder.claim, self.ids
        logger.warning(
            "run %s of %s is at its step %d; with more than %d it fails: raise flows_max_steps, or let it go on as "
            "another run (ctx.continue_as_new)", claim.run_id, self.flow.name, ids.used, ids.most,
        )  # fmt: skip

    def _check_alone(self, key: str) -> None:
        """A block of the handler's own could take back what the step records as done, and suspending ends it."""
        around = self.runtime.around
        if around is not None and around.is_on_the_store and around.is_block:
            misuse = f"step {key!r} was called inside an open transaction on the store's database, such as atomic(); "
            self.end_run(StepMisuse(misuse + "put that into the step's function, or use step.transaction"))

    def record(self, row: StepRow) -> str | None:
        """Record a step under the fence; the value that was there first, None when it is this one."""
        with self.at_the_store():
            return self.recorder.record(row)

    def fail(self, slot: Slot, error: BaseException, attempts: int | None = None) -> Result:
        """Record that the step has failed for good."""
        text = failure_text(failure_of(error, slot.key))
        stored = self.record(slot.row(State.FAILED, attempts or slot.attempts + 1, text))
        failed = step_error(slot.key, stored or text)
        failed.__cause__ = error
        return Failed(failed)

    def park_step(self, slot: Slot, pending: Pending) -> Result:
        """The step goes on in a later turn; what it waits for is written when this one suspends."""
        self.pending.append(pending)
        # For the rest of the turn the id is taken, as that of a running step is.
        self.ids.take_off(slot.id)
        return Parked()

    def end_run(self, error: FlowsError) -> None:
        """The handler's own mistake ends the run, whatever it catches."""
        self.doom = self.doom or error
        self.paused = True
        raise Suspend from error


def _other_kind(key: str, was: str, kind: Kind) -> NondeterminismError:
    return NondeterminismError(
        f"step {key!r} was recorded as a {was!r} step and is now a {kind.value!r} step; give the new one another id"
    )
