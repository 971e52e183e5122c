"""`step.send_event`: events and the step that sent them, in one transaction."""

from collections.abc import Sequence
from itertools import islice

from celeryflows.codec import loads, roundtrip
from celeryflows.engine.journal import JournalBase
from celeryflows.ids import derived_id, seeded_ids
from celeryflows.model.events import Event
from celeryflows.model.steps import Kind, State
from celeryflows.steps import Result, Value


class SendTool(JournalBase):
    """Sends events once."""

    def send(self, id: str, events: Sequence[Event]) -> Result:
        """Send events and record the step in one transaction: once, and never by a zombie."""
        slot = self.enter(id, Kind.SEND)
        if slot.memo is not None and slot.memo.value is not None:
            self.progress.meet(slot.memo)
            return Value(loads(slot.memo.value))
        self.check_fresh(slot)
        if slot.result is not None:
            return slot.result
        slot.start()
        seed = derived_id("send", self.recorder.claim.run_id, slot.key).encode()
        ids = list(islice(seeded_ids(slot.began // 1000, seed), len(events)))
        text, value = roundtrip(ids)
        with self.at_the_store():
            self.recorder.send(events, ids, slot.row(State.DONE, 1, text))
        return Value(value)
