"""How far a turn only repeats what an earlier one did: what the logger asks, so that each line is printed once."""

from collections.abc import Mapping
from contextvars import ContextVar

from celeryflows.model.steps import Memo, State

_met: ContextVar[tuple["Progress", int] | None] = ContextVar("celeryflows_progress", default=None)


class Progress:
    """Counts the steps of a turn. What follows a fresh step is news, and so is what follows a wait that has just ended.

    Each branch of an async handler has its own place; code that joins them goes on from the latest news of any.
    `first`: nothing was done before. `again`: the last turn broke off, nobody knows where behind its last memo.
    """

    def __init__(self, memos: Mapping[str, Memo], *, first: bool, again: bool) -> None:
        self._unmet = set(memos)
        self._last_turn = max((memo.turn for memo in memos.values()), default=0)
        self._again = again
        self._steps = 0
        self._news = 1 if first or (again and not memos) else 0

    @property
    def replaying(self) -> bool:
        """True where an earlier turn was already."""
        met = _met.get()
        return self._news <= (met[1] if met is not None and met[0] is self else 0)

    def meet(self, memo: Memo) -> None:
        """The handler goes on behind a remembered step."""
        self._steps += 1
        self._unmet.discard(memo.key)
        waited = memo.state == State.WAITING or memo.wait is not None
        # What a rerun keeps stands under turn 0: nothing of it has just ended.
        just_ended = waited and memo.turn == self._last_turn > 0
        if just_ended or (self._again and not self._unmet):
            self._news = self._steps
        else:
            _met.set((self, self._steps))

    def begin(self, key: str) -> None:
        """The handler reaches a step that is not remembered, or is not over."""
        self._steps += 1
        self._unmet.discard(key)
        self._news = self._steps


class Silence(Progress):
    """What a branch's turn repeats of the handler around its branch: none of it is news."""

    def __init__(self) -> None:
        super().__init__({}, first=False, again=False)

    def meet(self, memo: Memo) -> None:
        """Nothing to tell."""

    def begin(self, key: str) -> None:
        """Nothing to tell."""
