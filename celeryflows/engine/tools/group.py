"""`ctx.group`: branches spread over workers. The turn that opens a group writes it when it suspends."""

from celeryflows.engine.branch_values import unpack
from celeryflows.engine.budget import size_of
from celeryflows.engine.failures import read_failure
from celeryflows.engine.journal import FLOW_FAULTS, JournalBase
from celeryflows.engine.slots import Slot
from celeryflows.engine.waiting import Pending
from celeryflows.errors import BoundExceeded, StepError, StepMisuse
from celeryflows.groups import Mine
from celeryflows.model.branches import GROUPS, NewGroup, branch_path, group_id
from celeryflows.model.runs import Status
from celeryflows.model.steps import Kind, Memo, State
from celeryflows.steps import Failed, Result, Value
from celeryflows.store.groups import BranchEnd, GroupStanding


class GroupTool(JournalBase):
    """Opens groups, waits for them, and gives what came of them."""

    def group(self, kind: str, count: int, name: str | None) -> Result | Mine:
        """A group of `count` branches: what came of it, or parked until its branches have ended."""
        slot, previous = self.enter_group(kind, name)
        return self.stand_at(slot, previous, count)

    def stand_at(self, slot: Slot, previous: int, count: int) -> Result:
        """The group that the handler is at: what came of it, or parked; the step before it began at `previous`."""
        if count == 0:
            if slot.kind == Kind.RACE:
                self.end_run(StepMisuse(f"race {slot.key!r} has nothing to run; give it one branch at least"))
            return Value([])
        standing = None
        if slot.memo is not None:
            standing = self._read_group(slot.key)
        if slot.memo is None or standing is None or standing.is_open:
            return self._wait_for_branches(slot, count, is_open=standing is not None)
        self._join(slot.memo, standing, previous)
        result = self._of_group(slot, standing)
        if isinstance(result, Value):
            self.budget.check_all()
        return result

    def enter_group(self, kind: str, name: str | None) -> tuple[Slot, int]:
        """Take the next use of the group's name; and when the step before it began."""
        previous = self.previous_began
        try:
            id = group_id(name)
        except StepMisuse as error:
            self.end_run(error)
        return self.enter(id, Kind(kind)), previous

    @property
    def has_branches(self) -> bool:
        """True when a group that this turn did not see the end of may have branches that run or wait."""
        return any(memo.kind in GROUPS and memo.key not in self.joined for memo in self.own_memos)

    def _read_group(self, path: str) -> GroupStanding | None:
        connection, run_id = self.recorder.connection, self.recorder.claim.run_id
        with self.at_the_store():
            return connection.repeat(lambda: connection.groups.standing(run_id, path))

    def _wait_for_branches(self, slot: Slot, count: int, *, is_open: bool) -> Result:
        self.check_fresh(slot)
        if slot.result is not None:
            return slot.result
        most = self.runtime.settings.max_branches
        if count > most:
            raise BoundExceeded(
                f"branches of group {slot.key!r}", most, count, "Split it into several, or raise flows_max_branches."
            )
        branch_path(slot.key, count - 1)
        group = NewGroup(slot.key, slot.kind, count)
        return self.park_step(slot, Pending(slot.row(State.WAITING, 0, None), armed=is_open, group=group))

    def _join(self, memo: Memo, standing: GroupStanding, previous: int) -> None:
        """The group is over: a wait that follows looks from its begin on, or from the first event that it took."""
        self.progress.meet(memo)
        self.joined.add(memo.key)
        self._count_below(standing)
        if standing.settled_at is not None:
            self.looks.settle(max(previous, standing.settled_at), self.previous_began)

    def _count_below(self, standing: GroupStanding) -> None:
        """What the branches did counts among all that the run does, unless this turn knew it from the start."""
        if self.elsewhere is not None:
            return
        self.ids.spend(standing.below.steps)
        values = sum(size_of(end.value) for end in standing.ends if end.value is not None)
        # A value that a step recorded and its branch gave back counts once.
        self.budget.spend(max(standing.below.bytes, values))

    def _of_group(self, slot: Slot, standing: GroupStanding) -> Result:
        if standing.winner is not None:
            (end,) = (end for end in standing.ends if end.idx == standing.winner)
            return (
                Failed(self._branch_error(slot, end))
                if end.status == Status.FAILED
                else Value((end.idx, self._branch_value(end)))
            )
        errors = [self._branch_error(slot, end) for end in standing.ends if end.status == Status.FAILED]
        if not errors:
            return Value([self._branch_value(end) for end in standing.ends])
        first, *others = errors
        for other in others:
            first.add_note(str(other))
        return Failed(first)

    def _branch_value(self, end: BranchEnd) -> object:
        if end.value is None:
            return None
        return unpack(self.runtime.schemas, end.value)

    def _branch_error(self, slot: Slot, end: BranchEnd) -> StepError:
        failure = read_failure(end.error)
        for fault in FLOW_FAULTS:
            if failure.name == fault.__name__ and failure.step_id is None:
                # The handler's own mistake ends the run, whatever it catches.
                self.end_run(fault(failure.message))
        where = failure.step_id or branch_path(slot.key, end.idx)
        return StepError(where, failure.name, failure.message, failure.stack)
