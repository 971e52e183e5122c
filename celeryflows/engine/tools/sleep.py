"""`step.sleep` and `step.sleep_until`: a moment, kept from the first time the handler came there."""

from collections.abc import Callable
from datetime import datetime, timedelta

from celeryflows.durations import Duration, parse_bounded, parse_moment
from celeryflows.engine.journal import JournalBase
from celeryflows.engine.waiting import Pending
from celeryflows.model.steps import Kind, State
from celeryflows.steps import Result, Value


class SleepTool(JournalBase):
    """Sleeps."""

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

    def _sleep(self, id: str, due_of: Callable[[int], int]) -> Result:
        slot = self.enter(id, Kind.SLEEP)
        now = self.recorder.now()
        due = slot.memo.due_at if slot.memo is not None and slot.memo.due_at is not None else due_of(now)
        if due <= now:
            if slot.memo is not None:
                self.progress.meet(slot.memo)
            return Value(None)
        self.check_fresh(slot)
        return self.park_step(slot, Pending(slot.row(State.WAITING, 0, None, due)))
