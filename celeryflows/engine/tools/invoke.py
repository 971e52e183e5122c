"""`step.invoke`: another flow's run, started once, whose end is this step's value or error."""

from collections.abc import Callable
from typing import Any

from celeryflows.codec import dumps, loads
from celeryflows.durations import Duration, format_duration, parse_bounded
from celeryflows.engine.children import Child, child_id, plan_child
from celeryflows.engine.failures import failure_of, failure_text, read_failure
from celeryflows.engine.journal import JournalBase
from celeryflows.engine.slots import Slot
from celeryflows.engine.starting import call_event
from celeryflows.engine.waiting import Pending
from celeryflows.errors import FlowsError, InvalidOutput, InvokeError, InvokeTimeout
from celeryflows.model.step_options import PLAIN, StepOptions
from celeryflows.model.steps import Kind, Memo, State
from celeryflows.steps import Failed, Result, Value


class InvokeTool(JournalBase):
    """Invokes flows."""

    def invoke(self, id: str, flow: Any, data: Any, timeout: Duration, options: StepOptions = PLAIN) -> Result:
        """Start a run of the flow when this turn suspends, and wait for its end."""
        name = _flow_name(id, flow)
        slot = self.enter(id, Kind.INVOKE, options)
        memo = slot.memo
        if memo is not None and (memo.state in (State.DONE, State.FAILED) or memo.wait == "expired"):
            self.progress.meet(memo)
            return self._over(slot, memo, name)
        self.check_fresh(slot)
        if slot.result is not None:
            return slot.result
        if memo is not None:
            return self.park_step(slot, Pending(slot.row(State.WAITING, 0, None, memo.due_at), armed=True))
        interceptor = self.runtime.interceptor
        if interceptor is not None and interceptor.has_stub(self.recorder.claim, slot.key):
            return self._stubbed(slot, interceptor.body(self.recorder.claim, slot.key, _no_body), data)
        return self._start(slot, name, data, timeout)

    def _start(self, slot: Slot, flow: str, data: Any, timeout: Duration) -> Result:
        most = self.runtime.settings.max_wait
        wait = parse_bounded(timeout, what=f"invoke {slot.key!r}: timeout", least=1000, most=most)
        run_id = child_id(self.recorder.claim.run_id, slot.key, slot.began)
        try:
            event = call_event(() if data is None else (data,), {})
            with self.at_the_store():
                run, stored = plan_child(self.runtime, self.recorder.connection, flow, event, run_id)
        except FlowsError as error:
            return self._refused(slot, error)
        due = self.recorder.now() + wait
        child = Child(run, stored, bool(slot.options.cancel_with_parent), due, slot.began)
        return self.park_step(slot, Pending(slot.row(State.WAITING, 0, None, due), child=child))

    def _over(self, slot: Slot, memo: Memo, flow: str) -> Result:
        run_id = memo.awaits or ""
        if memo.state == State.DONE:
            return _value(slot, memo.value or "null", run_id)
        if memo.state == State.FAILED:
            failure = read_failure(memo.value)
            return Failed(InvokeError(slot.key, failure.name, failure.message, failure.stack, run_id))
        within = format_duration((memo.due_at or memo.began) - memo.began)
        told = f"{flow} has not ended within {within}; the run goes on"
        return Failed(InvokeTimeout(slot.key, "InvokeTimeout", told, "", run_id))

    def _refused(self, slot: Slot, error: Exception) -> Result:
        """It cannot be started: an unknown flow, data that cannot be stored."""
        failure = failure_of(error, slot.key)
        self.record(slot.row(State.FAILED, 1, failure_text(failure)))
        failed = InvokeError(slot.key, failure.name, failure.message, failure.stack)
        failed.__cause__ = error
        return Failed(failed)

    def _stubbed(self, slot: Slot, body: Callable[..., Any], data: Any) -> Result:
        """A test has put a value, an error or a function of the data in its place."""
        try:
            text = dumps(body(data), what=f"the value of step {slot.key!r}")
        except Exception as error:
            return self._refused(slot, error)
        self.record(slot.row(State.DONE, 1, text))
        return _value(slot, text, "")


def _value(slot: Slot, text: str, run_id: str) -> Result:
    kind = slot.options.output_type
    if kind is None:
        return Value(loads(text))
    try:
        return Value(kind.read(text, what=f"the value of the run {run_id}"))
    except InvalidOutput as error:
        return Failed(InvokeError(slot.key, type(error).__name__, str(error), "", run_id))


def _flow_name(id: str, flow: Any) -> str:
    if isinstance(flow, dict):
        raise TypeError(
            f"invoke {id!r} was given a signature; pass the flow and its data: step.invoke({id!r}, flow, data)"
        )
    name = flow if isinstance(flow, str) else getattr(flow, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"invoke {id!r} takes a flow or its name, got {flow!r:.80}")
    return name


def _no_body(*_: Any) -> None:
    """The stub stands in its place."""
