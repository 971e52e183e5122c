"""Does today's code still fit what was recorded: the handler runs over the memos, no step's body is ever called."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from celeryflows.codec import canonical, dumps, loads
from celeryflows.engine.checked_turns import CheckedBranch, CheckedRun, reader_of
from celeryflows.engine.conclusion import Conclusion
from celeryflows.engine.failures import failure_of, read_failure
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.turn import call_handler
from celeryflows.errors import FlowsError, NondeterminismError
from celeryflows.model.branches import lineage
from celeryflows.model.history import BranchHistory, History
from celeryflows.model.runs import OPEN, Status

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
    yield from _compare_unit(flow, _run_unit(runtime, flow, history))
    for group in history.groups.values():
        for branch in group.branches:
            yield from _compare_unit(flow, _branch_unit(runtime, flow, history, branch))


@dataclass(slots=True)
class _Unit:
    """The run's main line, or one of its branches: today's code beside what was recorded of it."""

    journal: CheckedRun | CheckedBranch
    conclusion: Conclusion | None
    status: str
    output: str | None
    error: str | None
    own: list[str]


def _run_unit(runtime: Runtime, flow: Flow, history: History) -> _Unit:
    journal = CheckedRun(runtime, flow, reader_of(runtime, history), history.memos_of(()))
    journal.history = history
    left = call_handler(runtime, flow, journal.recorder.claim, journal)
    if left.error is None and (left.parked or journal.paused or journal.yielding or journal.pending):
        left = Conclusion(parked=True)
    return _Unit(journal, left, history.status, history.output, history.error, list(history.memos_of(())))


def _branch_unit(runtime: Runtime, flow: Flow, history: History, branch: BranchHistory) -> _Unit:
    memos = history.memos_of(lineage(branch.path))
    journal = CheckedBranch(runtime, flow, reader_of(runtime, history, branch.path), memos)
    journal.history = history
    call_handler(runtime, flow, journal.recorder.claim, journal)
    # What is around the branch is the main line's to tell.
    ended = journal.outcome or Conclusion(parked=True)
    own = [memo.key for memo in journal.own_memos if history.places[memo.key] == branch.path]
    is_told = journal.aside or not journal.entered
    return _Unit(journal, None if is_told else ended, branch.status, None, branch.error, own)


def _compare_unit(flow: Flow, unit: _Unit) -> Iterator[Finding]:
    journal, left = unit.journal, unit.conclusion
    if left is None:
        return
    if journal.doom is not None:
        kind = KIND if isinstance(journal.doom, NondeterminismError) else ERROR
        yield Finding(kind, str(journal.doom), journal.at)
        return
    if left.error is not None and (raised := _raised(unit.error, left.error)) is not None:
        yield raised
        return
    unasked = [key for key in unit.own if key not in journal.asked]
    if journal.added:
        yield from _added(unit.status, journal.added, unasked)
    else:
        yield from (
            Finding(REMOVED, f"step {key!r} was recorded and is not asked for any more", key) for key in unasked
        )
    if isinstance(journal, CheckedRun) and left.error is None and not left.parked:
        yield from _returned(flow, unit, left.value)


def _added(status: str, added: Iterable[str], unasked: list[str]) -> Iterator[Finding]:
    """Fresh steps: where a run stands or was stopped that is no news, but for steps in front of recorded ones."""
    if status != Status.COMPLETED and not unasked:
        return
    behind = f"; {len(unasked)} recorded steps behind it were not looked at" if unasked else ""
    for key in added:
        yield Finding(ADDED, f"step {key!r} was not recorded: a replay would run it{behind}", key)


def _raised(recorded: str | None, error: BaseException) -> Finding | None:
    """What the handler raises now, unless the run failed with the same or has met it before."""
    now = failure_of(error)
    before = read_failure(recorded).name if recorded is not None else None
    return None if now.name == before else Finding(ERROR, f"the handler raises {now.name}: {now.message}", now.step_id)


def _returned(flow: Flow, unit: _Unit, value: Any) -> Iterator[Finding]:
    if unit.status != Status.COMPLETED:
        return
    try:
        text = dumps(value) if flow.output_type is None else flow.output_type.write(value, what="the flow's value")[0]
    except FlowsError as error:
        yield Finding(ERROR, str(error))
        return
    if canonical(loads(text)) != canonical(loads(unit.output or "null")):
        yield Finding(OUTPUT, f"the value at the end is {text:.200}, it was {unit.output or 'null':.200}")
