"""`ctx.continue_as_new`: the run ends here, and another of the same flow goes on with new data."""

from typing import Any

from celeryflows.engine.journal import JournalBase
from celeryflows.engine.slots import Slot
from celeryflows.engine.successors import plan_successor
from celeryflows.errors import StepMisuse, Suspend
from celeryflows.steps import Parked, Result


class SuccessorTool(JournalBase):
    """Plans the successor; it starts when the turn is over."""

    def continue_as_new(self, data: Any) -> Result:
        """Leave the handler for good. Raises InvalidEvent and what data raises that cannot be stored."""
        if self.paused:
            raise Suspend
        slot = Slot.around(self.recorder)
        if slot is not None:
            self.end_run(StepMisuse(f"continue_as_new was called inside step {slot.key!r}; call it in the handler"))
        self.successor = plan_successor(self.runtime, self.recorder, data)
        self.paused = True
        return Parked()
