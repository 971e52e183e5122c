"""A turn's journal over a history: it notes what is asked for, and stops where a step would have to run."""

from typing import Any

from celeryflows.engine.branch_journal import BranchJournal
from celeryflows.engine.recording import Recorder
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.slots import Slot
from celeryflows.engine.turn_journal import TurnJournal
from celeryflows.errors import Suspend
from celeryflows.model.history import History
from celeryflows.model.runs import Status
from celeryflows.steps import Parked, Result
from celeryflows.store.groups import BranchEnd, GroupStanding
from celeryflows.store.runs import Claim


class CheckedTurn(TurnJournal):
    """What both kinds of turns share. `asked` are the keys of all steps, `added` of those that are not recorded."""

    history: History

    def __init__(self, *turn: Any) -> None:
        self.asked: set[str] = set()
        self.added: list[str] = []
        self.at: str | None = None
        super().__init__(*turn)

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

    def enter_member(self, key: str, *kind: Any) -> Slot:
        """A part of a step is asked for as a step is."""
        self.at = key
        slot = super().enter_member(key, *kind)
        self.asked.add(slot.key)
        return slot

    def check_fresh(self, slot: Slot) -> None:
        """Nothing fresh is run: the turn is handed back here."""
        if slot.memo is None:
            self.added.append(slot.key)
        super().check_fresh(slot)

    def _read_group(self, path: str) -> GroupStanding | None:
        group = self.history.groups.get(path)
        if group is None:
            return None
        ended = (Status.COMPLETED, Status.FAILED)
        ends = (BranchEnd(b.idx, b.status, b.value, b.error) for b in group.branches if b.status in ended)
        return GroupStanding(group.state, group.winner, tuple(ends), None)


class CheckedRun(CheckedTurn):
    """The run's main line."""

    def continue_as_new(self, data: Any) -> Result:
        """The run would end here; its successor has a history of its own."""
        if self.paused:
            raise Suspend
        self.paused = True
        return Parked()


class CheckedBranch(CheckedTurn, BranchJournal):
    """One branch."""


class _Reader(Recorder):
    """Has nothing to write to."""

    def record(self, *_: Any) -> str | None:
        """Never reached: no step runs."""
        raise AssertionError("a check records nothing")

    send = record  # type: ignore[assignment]


def reader_of(runtime: Runtime, history: History, path: str = "") -> Recorder:
    """A turn of the run, or of its branch, as late as its history went; it hands back at each step boundary."""
    claim = Claim(
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
        path=path,
        events=history.events,
    )
    return _Reader(runtime, None, claim, _always)  # type: ignore[arg-type]


def _always() -> bool:
    return True
