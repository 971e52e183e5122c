"""`step.task`: existing Celery tasks, on their own queues and workers, whose end is this step's value or error.

Of a canvas each member is a step below the canvas's own id; the canvas itself is recorded nowhere."""

from functools import partial

from celeryflows.codec import dumps, loads
from celeryflows.durations import Duration, format_duration, parse_bounded
from celeryflows.engine.budget import size_of
from celeryflows.engine.canvas_walk import CanvasWalk
from celeryflows.engine.failures import failure_of, failure_text, step_error
from celeryflows.engine.journal import JournalBase
from celeryflows.engine.remote_tasks import recall, remote_id
from celeryflows.engine.slots import Slot
from celeryflows.engine.waiting import Pending
from celeryflows.errors import BoundExceeded, InvalidOutput, NotStorable, StepError, StepTimeout
from celeryflows.model.canvases import Node
from celeryflows.model.remote_tasks import NewTask, TaskCall
from celeryflows.model.step_options import PLAIN, StepOptions
from celeryflows.model.steps import Failure, Kind, Memo, State
from celeryflows.steps import Failed, Parked, Result, Value


class TaskTool(JournalBase):
    """Sends existing tasks out."""

    def task(self, id: str, signature: object, timeout: Duration | None, options: StepOptions = PLAIN) -> Result:
        """Send the task, or what of the canvas can be sent, when this turn suspends, and wait for the end."""
        plan = self.runtime.tasks.read(id, signature)
        slot = self.enter(id, Kind.TASK, options)
        within = None if timeout is None else self._timeout(slot, timeout)
        if isinstance(plan, TaskCall):
            due = None if within is None else self.recorder.now() + within
            return self._stand_at(slot, plan, due, "")
        if slot.memo is not None:
            self.progress.meet(slot.memo)
            return self._ended(slot, slot.memo)
        if self._has_stub(slot.key):
            return self._stub_of_task(slot, TaskCall(id))
        result = self._walk(plan, f"{slot.key}/", within)
        if isinstance(result, Parked):
            self.ids.take_off(slot.id)
        return _typed(slot, result)

    def canvas(self, signature: object) -> Result:
        """A canvas that is all there is to a run: its members stand under their own names."""
        plan = self.runtime.tasks.read("canvas", signature)
        return self._walk(plan, "", None)

    def _timeout(self, slot: Slot, timeout: Duration) -> int:
        most = self.runtime.settings.max_wait
        return parse_bounded(timeout, what=f"task {slot.key!r}: timeout", least=1000, most=most)

    def _walk(self, plan: Node, prefix: str, within: int | None) -> Result:
        due = None if within is None else self._began(prefix) + within
        return CanvasWalk(plan, partial(self._member, prefix, due), partial(self._not_sent, prefix)).result()

    def _began(self, prefix: str) -> int:
        """When the first of a canvas's members began; now when none has."""
        began = (memo.began for key, memo in self.memos.items() if key.startswith(prefix) and memo.kind == Kind.TASK)
        return min(began, default=self.recorder.now())

    def _member(self, prefix: str, due: int | None, name: str, call: TaskCall, place: str) -> Result:
        slot = self.enter_member(prefix + name, Kind.TASK, PLAIN)
        if slot.memo is None and due is not None and due <= self.recorder.now():
            late = StepTimeout(slot.key, StepTimeout.__name__, "the canvas had no time left for it; it was not sent")
            return self.fail(slot, late)
        return self._stand_at(slot, call, due, place)

    def _not_sent(self, prefix: str, name: str, call: TaskCall, error: StepError) -> None:
        """A chord's header has failed: its body's errbacks are called, once."""
        if not call.options.get("link_error"):
            return
        slot = self.enter_member(prefix + name, Kind.TASK, PLAIN)
        if slot.memo is not None:
            return
        self.check_fresh(slot)
        if slot.result is None:
            told = f"{error.step_id} failed: {error.name}: {error.message}"
            task_id = remote_id(self.recorder.claim.run_id, slot.key, slot.began)
            self.runtime.tasks.call_errbacks(call, task_id, told)
            self.record(slot.row(State.FAILED, 0, failure_text(Failure("ChordError", told, "", slot.key))))

    def _stand_at(self, slot: Slot, call: TaskCall, due: int | None, place: str) -> Result:
        """The task that the handler is at: its value or error, or parked until it has ended."""
        memo = slot.memo
        if memo is not None and (memo.state in (State.DONE, State.FAILED) or memo.wait == "expired"):
            self.progress.meet(memo)
            return self._ended(slot, memo)
        if memo is not None:
            self.progress.begin(slot.key)
            return self.park_step(slot, Pending(slot.row(State.WAITING, 0, None, memo.due_at), armed=True))
        self.check_fresh(slot)
        if slot.result is not None:
            return slot.result
        if self._has_stub(slot.key):
            return self._stub_of_task(slot, call)
        return self._send(slot, call, due, place)

    def _send(self, slot: Slot, call: TaskCall, due: int | None, place: str) -> Result:
        try:
            parcel = self.runtime.tasks.pack(call)
        except (NotStorable, TypeError) as error:
            return self.fail(slot, error)
        most = self.runtime.settings.max_value_bytes
        if (size := size_of(parcel.text)) > most:
            remedy = "Pass a key instead, or raise flows_max_value_bytes."
            return self.fail(slot, BoundExceeded(f"step {slot.key!r}: bytes of arguments", most, size, remedy))
        task_id = remote_id(self.recorder.claim.run_id, slot.key, slot.began)
        task = NewTask(task_id, slot.key, parcel, slot.began, place)
        return self.park_step(slot, Pending(slot.row(State.WAITING, 0, None, due), task=task))

    def _ended(self, slot: Slot, memo: Memo) -> Result:
        if memo.state == State.DONE:
            return _typed(slot, Value(loads(memo.value or "null")))
        if memo.state == State.FAILED:
            return Failed(step_error(slot.key, memo.value))
        with self.at_the_store():
            recall(self.runtime, [self.recorder.claim.run_id])
        within = format_duration((memo.due_at or memo.began) - memo.began)
        told = f"no answer within {within}; the task {memo.awaits} was revoked"
        return Failed(StepTimeout(slot.key, StepTimeout.__name__, told, ""))

    def _has_stub(self, key: str) -> bool:
        interceptor = self.runtime.interceptor
        return interceptor is not None and interceptor.has_stub(self.recorder.claim, key)

    def _stub_of_task(self, slot: Slot, call: TaskCall) -> Result:
        """A test has put a value, an error or a function of the arguments in its place."""
        body = self.runtime.interceptor.body(self.recorder.claim, slot.key, _no_body)  # type: ignore[union-attr]
        try:
            text = dumps(body(*call.args, **call.kwargs), what=f"the value of step {slot.key!r}")
        except Exception as error:
            return self.fail(slot, error)
        self.record(slot.row(State.DONE, 1, text))
        return _typed(slot, Value(loads(text)))


def _typed(slot: Slot, result: Result) -> Result:
    kind = slot.options.output_type
    if kind is None or not isinstance(result, Value):
        return result
    try:
        return Value(kind.read(dumps(result.value), what=f"the value of step {slot.key!r}"))
    except InvalidOutput as error:
        return Failed(step_error(slot.key, failure_text(failure_of(error, slot.key))))


def _no_body(*_: object, **__: object) -> None:
    """The stub stands in its place."""
