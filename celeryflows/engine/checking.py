"""Does today's code still fit what was recorded: the handler runs over the memos, no step's body is ever called."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from celeryflows.codec import canonical, dumps, loads
from celeryflows.engine.failures import failure_of, read_failure
from celeryflows.engine.recording import Recorder
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.slots import Slot
from celeryflows.engine.turn import call_handler
from celeryflows.engine.turn_journal import TurnJournal
from celeryflows.errors import FlowsError, NondeterminismError, Suspend
from celeryflows.model.history import History
from celeryflows.model.runs import OPEN, Status
from celeryflows.model.steps import Memo
from celeryflows.steps import Parked, Result
from celeryflows.store.runs import Claim

KIND, ERROR, FLOW, REMOVED, ADDED, OUTPUT = "kind", "error", "flow", "removed", "added", "output"
# What ends or fails a run; the rest is told.
BREAKS = frozenset({KIND, ERROR, FLOW})


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between today's code and a history.

    `what`: kind (a step of another kind under the same id), error (the handler raises what it did not raise), flow (not
    declared any more), removed (a recorded step is not asked for), added (a new step comes before recorded ones),
    output (another value at the end).
    """

    what: str
    text: str
    step: str | None = None

    @property
    def breaks(self) -> bool:
        """True when a run would end by it."""
        return self.what in BREAKS


@dataclass(frozen=True, slots=True)
class RunCheck:
    """What was found for one run."""

    run_id: str
    flow: str
    version: str | None
    status: str
    findings: tuple[Finding, ...]

    @property
    def breaks(self) -> bool:
        """True when today's code would break the run."""
        return any(finding.breaks for finding in self.findings)


def check(runtime: Runtime, history: History) -> RunCheck:
    """Run today's handler over one history. Code between steps runs for real, as it does in every turn."""
    flow = runtime.flows.get(history.flow)
    if flow is not None:
        findings = tuple(_compare(runtime, flow, history))
    elif Status(history.status) in OPEN:
        findings = (Finding(FLOW, f"no flow {history.flow!r} is declared: nobody can take the run's next turn"),)
    else:
        findings = ()
    return RunCheck(history.run_id, history.flow, history.version, history.status, findings)


def _compare(runtime: Runtime, flow: Flow, history: History) -> Iterator[Finding]:
    journal = _Journal(runtime, flow, history)
    conclusion = call_handler(runtime, flow, journal.recorder.claim, journal)
    if journal.doom is not None:
        kind = KIND if isinstance(journal.doom, NondeterminismError) else ERROR
        yield Finding(kind, str(journal.doom), journal.at)
        return
    if conclusion.error is not None and (raised := _raised(history, conclusion.error)) is not None:
        yield raised
        return
    unasked = [key for key in history.memos if key not in journal.asked]
    if journal.added:
        yield from _added(history, journal.added, unasked)
    else:
        yield from (
            Finding(REMOVED, f"step {key!r} was recorded and is not asked for any more", key) for key in unasked
        )
    if conclusion.error is None and not (conclusion.parked or journal.paused or journal.yielding or journal.pending):
        yield from _returned(flow, history, conclusion.value)


def _added(history: History, added: Iterable[str], unasked: list[str]) -> Iterator[Finding]:
    """Fresh steps: where an open run stands that is no news, but for steps in front of recorded ones."""
    is_open = Status(history.status) in OPEN
    if is_open and not unasked:
        return
    behind = f"; {len(unasked)} recorded steps behind it were not looked at" if unasked else ""
    for key in added:
        yield Finding(ADDED, f"step {key!r} was not recorded: a replay would run it{behind}", key)


def _raised(history: History, error: BaseException) -> Finding | None:
    """What the handler raises now, unless the run failed with the same or has met it before."""
    now = failure_of(error)
    before = read_failure(history.error).name if history.error is not None else None
    return None if now.name == before else Finding(ERROR, f"the handler raises {now.name}: {now.message}", now.step_id)


def _returned(flow: Flow, history: History, value: Any) -> Iterator[Finding]:
    if history.status != Status.COMPLETED:
        return
    try:
        text = dumps(value) if flow.output_type is None else flow.output_type.write(value, what="the flow's value")[0]
    except FlowsError as error:
        yield Finding(ERROR, str(error))
        return
    if canonical(loads(text)) != canonical(loads(history.output or "null")):
        yield Finding(OUTPUT, f"the value at the end is {text:.200}, it was {history.output or 'null':.200}")


class _Journal(TurnJournal):
    """Answers from the record, notes what is asked for, and stops wherever a step would have to run."""

    def __init__(self, runtime: Runtime, flow: Flow, history: History) -> None:
        # A wait that was closed when its run ended was never answered: the handler did not get past it.
        memos = {key: _reopened(memo) for key, memo in history.memos.items()}
        super().__init__(runtime, flow, _Reader(runtime, None, _claim(history), _always), memos)  # type: ignore[arg-type]
        self.asked: set[str] = set()
        self.added: list[str] = []
        self.at: str | None = None

    @property
    def replaying(self) -> bool:
        """The handler's logger stays silent."""
        return True

    def enter(self, id: str, *kind: Any) -> Slot:
        """Note which step is asked for."""
        self.at = id
        slot = super().enter(id, *kind)
        self.asked.add(slot.key)
        return slot

    def check_fresh(self, slot: Slot) -> None:
        """Nothing fresh is run: the turn is handed back here."""
        if slot.memo is None:
            self.added.append(slot.key)
        super().check_fresh(slot)

    def group(self, kind: str, count: int, name: str | None) -> Result:
        """A check looks no further than to the first group: what its branches gave stands outside of the memos."""
        slot, _ = self.enter_group(kind, name)
        if slot.memo is None:
            self.check_fresh(slot)
        self.asked |= set(self.memos)
        self.paused = True
        return Parked()

    def continue_as_new(self, data: Any) -> Result:
        """The run would end here; its successor has a history of its own."""
        if self.paused:
            raise Suspend
        self.paused = True
        return Parked()


class _Reader(Recorder):
    """Has nothing to write to."""

    def record(self, *_: Any) -> str | None:
        """Never reached: no step runs."""
        raise AssertionError("a check records nothing")

    send = record  # type: ignore[assignment]


def _always() -> bool:
    return True


def _reopened(memo: Memo) -> Memo:
    return replace(memo, wait="open") if memo.wait == "closed" else memo


def _claim(history: History) -> Claim:
    return Claim(
        run_id=history.run_id,
        worker="",
        token=0,
        turn=2,
        flow=history.flow,
        version=history.version,
        attempt=history.attempt,
        lost=0,
        started_at=history.started_at,
        at=history.until,
        message=None,
        origin=None,
        event=history.event,
    )
