"""`step.wait_for_event`: remembered, or parked until the event comes or the time is out."""

from celeryflows.engine.journal import JournalBase
from celeryflows.engine.slots import Slot
from celeryflows.engine.waiting import Pending, wait_spec
from celeryflows.model.steps import Kind, Memo, State
from celeryflows.steps import Result, Value, WaitRequest


class WaitTool(JournalBase):
    """Waits for events."""

    def wait(self, id: str, request: WaitRequest) -> Result:
        """Wait for an event: remembered, or parked until it comes or the time is out."""
        previous = self.previous_began
        slot = self.enter(id, Kind.WAIT)
        memo, now = slot.memo, self.recorder.now()
        if memo is not None and memo.wait == "answered" and memo.event is not None:
            self.progress.meet(memo)
            self._settle(slot, memo)
            return Value(self.runtime.schemas.read(memo.event))
        if memo is not None and memo.wait == "expired":
            self.progress.meet(memo)
            self._settle(slot, memo)
            return Value(None)
        self.check_fresh(slot)
        spec = wait_spec(
            slot.key, request, self.recorder.claim, previous=previous, now=now, settings=self.runtime.settings
        )
        due = memo.due_at if memo is not None and memo.due_at is not None else now + spec.timeout
        return self.park_step(slot, Pending(slot.row(State.WAITING, 0, None, due), spec, armed=memo is not None))

    def _settle(self, slot: Slot, memo: Memo) -> None:
        """A wait is over: the wait that follows, at once or after a step, looks from there, or a loop would miss
        what came after this wait's event and before its turn."""
        if memo.settled_at is not None:
            self.looks.settle(memo.settled_at, slot.began)
