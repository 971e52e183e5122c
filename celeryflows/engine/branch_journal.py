"""The journal of a branch's turn: the handler is repeated up to its group, and of that the one branch is run."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from celeryflows.engine.conclusion import Conclusion
from celeryflows.engine.lookback import LookBack
from celeryflows.engine.progress import Progress, Silence
from celeryflows.engine.recording import Recorder
from celeryflows.engine.runtime import Flow, Runtime
from celeryflows.engine.slots import BranchIds, Slot, StepIds
from celeryflows.engine.turn_journal import TurnJournal
from celeryflows.engine.waiting import Pending
from celeryflows.errors import NondeterminismError, StepMisuse
from celeryflows.groups import Mine
from celeryflows.model.branches import group_of, index_of, lineage
from celeryflows.model.steps import Memo
from celeryflows.steps import Parked, Result


@dataclass(slots=True)
class Scope:
    """The ids and the progress of the run's main line, or of one branch. `depth` counts the groups around it."""

    journal: object
    depth: int
    ids: StepIds
    progress: Progress
    looks: LookBack


_scope: ContextVar[Scope | None] = ContextVar("celeryflows_branch", default=None)


class BranchJournal(TurnJournal):
    """All step tools over one turn of one branch. Only what is called inside the branch runs or is recorded.

    `outcome` is how the branch ended, None while it goes on; `entered` that the handler came to it.
    """

    def __init__(self, runtime: Runtime, flow: Flow, recorder: Recorder, memos: dict[str, Memo]) -> None:
        self.line = lineage(recorder.claim.path)
        self._prefix = f"{recorder.claim.path}/"
        self.outcome: Conclusion | None = None
        self.entered = False
        self.aside = False
        looks = LookBack(recorder.claim.started_at, is_async=flow.is_async)
        self._root = Scope(self, 0, StepIds(runtime.settings.max_steps), Silence(), looks)
        super().__init__(runtime, flow, recorder, memos)
        self._root.progress = Silence()
        if self.elsewhere is not None:
            self.budget.spend(self.elsewhere.bytes)

    @property
    def has_open_waits(self) -> bool:
        """True when it waits for something that has not come."""
        return any(memo.wait == "open" for memo in self.own_memos)

    @property
    def own_memos(self) -> list[Memo]:
        """What the branch did itself."""
        return [memo for key, memo in self.memos.items() if key.startswith(self._prefix)]

    # -- where the calling code stands

    @property
    def here(self) -> Scope:
        """The scope of the calling code: what it starts inherits it."""
        scope = _scope.get()
        return scope if scope is not None and scope.journal is self else self._root

    @property
    def is_inside(self) -> bool:
        """True inside the branch of this turn, false in what is around it."""
        return self.here.depth == len(self.line)

    ids = property(lambda self: self.here.ids, lambda self, ids: setattr(self.here, "ids", ids))
    progress = property(lambda self: self.here.progress, lambda self, one: setattr(self.here, "progress", one))
    looks = property(lambda self: self.here.looks, lambda self, looks: setattr(self.here, "looks", looks))

    # -- what is around the branch only repeats

    def check_fresh(self, slot: Slot) -> None:
        """Inside the branch as in any turn; around it nothing new is done."""
        if self.is_inside:
            super().check_fresh(slot)
        else:
            self._stay_aside(slot.key)
            slot.result = Parked()

    def park_step(self, slot: Slot, pending: Pending) -> Result:
        """Around the branch it is another turn's business what goes on later."""
        if self.is_inside:
            return super().park_step(slot, pending)
        self._stay_aside(slot.key)
        self.ids.take_off(slot.id)
        return Parked()

    @property
    def is_parked(self) -> bool:
        """True when code waits that this turn does not resume."""
        return self.aside or super().is_parked

    def group(self, kind: str, count: int, name: str | None) -> Result | Mine:
        """The group around the branch: run the branch. Any other as in any turn."""
        scope = self.here
        if self.is_inside:
            return super().group(kind, count, name)
        slot, previous = self.enter_group(kind, name)
        path = self.line[scope.depth]
        if slot.key != group_of(path):
            return self.stand_at(slot, previous, count)
        if index_of(path) >= count:
            self.end_run(NondeterminismError(f"group {slot.key!r} had a branch {path!r} and now has {count} branches"))
        return self._enter_branch(path, scope.depth + 1, previous)

    def continue_as_new(self, data: Any) -> Result:
        """Not from a branch: its run goes on when all have ended. Around it, it is another turn's business."""
        if self.is_inside:
            self.end_run(StepMisuse("continue_as_new was called in a branch of a group; call it behind the group"))
        self.aside = self.paused = True
        return Parked()

    def _enter_branch(self, path: str, depth: int, previous: int) -> Mine:
        own = depth == len(self.line)
        ids = BranchIds(self.runtime.settings.max_steps, path, self._used_around(own=own))
        progress: Progress = Silence()
        if own:
            self.entered = True
            claim = self.recorder.claim
            again = claim.attempt > 0 or claim.lost > 0
            memos = {memo.key: memo for memo in self.own_memos}
            progress = Progress(memos, first=claim.turn == 1 and not self.recorder.looked, again=again)
        looks = LookBack(previous, is_async=self.flow.is_async)
        return _MyBranch(self, index_of(path), Scope(self, depth, ids, progress, looks))

    def _used_around(self, *, own: bool) -> int:
        """How many steps the run has beside the branch's own, as far as they are known."""
        if not own or self.elsewhere is None:
            return self.here.ids.used
        return self.elsewhere.steps + len(self.memos) - len(self.own_memos)

    def _stay_aside(self, key: str) -> None:
        self.aside = True
        if not self.flow.is_async:
            self.end_run(
                NondeterminismError(
                    f"branch {self.recorder.claim.path!r} came to step {key!r}, which was not there before its group "
                    "when the group began; let runs under way end before such a change"
                )
            )


@dataclass(slots=True)
class _MyBranch:
    """The branch to run, or one around it."""

    journal: BranchJournal
    index: int
    scope: Scope

    @contextmanager
    def within(self) -> Iterator[None]:
        """What is called inside belongs to the branch."""
        before = _scope.get()
        _scope.set(self.scope)
        try:
            yield
        finally:
            # Not by token: a coroutine that is left may be closed in another context.
            _scope.set(before)

    def ended(self, value: Any = None, error: Exception | None = None) -> None:
        """How it ended. A branch around the one of this turn cannot end before it: the code has changed."""
        journal = self.journal
        if journal.paused:
            return
        if self.scope.depth == len(journal.line):
            journal.outcome = Conclusion(value=value, error=error)
        elif error is not None:
            journal.outcome = Conclusion(error=error)
        journal.paused = True
