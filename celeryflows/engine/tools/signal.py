"""`step.wait_for_signal`: parked until somebody sends the signal, or the time is out."""

from celeryflows.codec import loads
from celeryflows.durations import parse_bounded
from celeryflows.engine.failures import step_error
from celeryflows.engine.journal import JournalBase
from celeryflows.engine.waiting import Pending
from celeryflows.errors import StepMisuse
from celeryflows.model.signals import FAIL, REPLACE, Signal, SignalSpec, check_signal_name
from celeryflows.model.steps import Kind, State
from celeryflows.steps import Failed, Result, SignalRequest, Value

# How a wait may end without its signal.
OVER = ("expired", "replaced")


class SignalTool(JournalBase):
    """Waits for signals."""

    def wait_for_signal(self, id: str, request: SignalRequest) -> Result:
        """Wait for a signal: remembered, or parked until it comes or the time is out."""
        slot = self.enter(id, Kind.SIGNAL)
        memo, now = slot.memo, self.recorder.now()
        if memo is not None and (memo.state in (State.DONE, State.FAILED) or memo.wait in OVER):
            self.progress.meet(memo)
            if memo.state == State.FAILED:
                return Failed(step_error(slot.key, memo.value))
            return Value(Signal(**loads(memo.value)) if memo.state == State.DONE and memo.value else None)
        if request.on_conflict not in (FAIL, REPLACE):
            self.end_run(
                StepMisuse(f"signal {id!r}: on_conflict is 'fail' or 'replace', got {request.on_conflict!r:.80}")
            )
        name = check_signal_name(request.name)
        most = self.runtime.settings.max_wait
        timeout = parse_bounded(request.timeout, what=f"signal {slot.key!r}: timeout", least=1000, most=most)
        self.check_fresh(slot)
        if memo is not None:
            return self.park_step(slot, Pending(slot.row(State.WAITING, 0, None, memo.due_at), armed=True))
        spec = SignalSpec(slot.key, name, request.on_conflict == REPLACE, slot.began)
        return self.park_step(slot, Pending(slot.row(State.WAITING, 0, None, now + timeout), signal=spec))
