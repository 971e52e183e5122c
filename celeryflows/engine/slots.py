"""The uses of step ids in one turn: their keys, which are in flight, and the one that a piece of code runs in."""

from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

from celeryflows.engine.recording import Recorder
from celeryflows.errors import BoundExceeded, StepMisuse
from celeryflows.model.step_options import PLAIN, StepOptions
from celeryflows.model.steps import Kind, Memo, State, check_step_id
from celeryflows.steps import Result
from celeryflows.store.steps import StepRow

_inside: ContextVar["Slot | None"] = ContextVar("celeryflows_step", default=None)


class Slot:
    """One use of a step id in this turn. `attempts` are those that failed before this one; `given` is what the attempt
    was called with, where that is recorded."""

    __slots__ = (
        *("_recorder", "_token", "attempts", "began", "body", "given", "id", "key", "kind", "memo", "options"),
        *("result", "started"),
    )

    body: Callable[..., Any]

    def __init__(
        self, recorder: Recorder, id: str, key: str, kind: Kind, memo: Memo | None, options: StepOptions = PLAIN
    ) -> None:
        self._recorder = recorder
        self.id = id
        self.key = key
        self.kind = kind
        self.memo = memo
        self.options = options
        self.began = memo.began if memo else recorder.began
        self.attempts = memo.attempts if memo else 0
        self.result: Result | None = None
        self.started = 0.0
        self.given: str | None = None
        self._token: Token[Slot | None] | None = None

    def __enter__(self) -> "Slot":
        self._token = _inside.set(self)
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._token is not None:
            _inside.reset(self._token)

    def start(self) -> None:
        """The attempt begins."""
        self.started = self._recorder.runtime.clock.monotonic()

    def row(self, state: State, attempts: int, value: str | None, due: int | None = None) -> StepRow:
        """The step as a row of this turn."""
        claim, clock = self._recorder.claim, self._recorder.runtime.clock
        took = int((clock.monotonic() - self.started) * 1e6) if self.started else None
        return StepRow(
            claim.run_id, claim.turn, claim.token, self.key, self.kind, state, attempts, value, self.began, took, due,
            claim.path, self.given,
        )  # fmt: skip

    @classmethod
    def around(cls, recorder: Recorder) -> "Slot | None":
        """The step of this turn that the calling code runs in, None outside of steps."""
        slot = _inside.get()
        return slot if slot is not None and slot._recorder is recorder else None


def warns_at(most: int) -> int:
    """From so many steps on a run is told to be near its bound: four fifths."""
    return max(1, most * 4 // 5)


class StepIds:
    """Numbers repeated ids (`id`, `id:1`, ...) and knows which are in flight. `most` bounds the steps of a run.

    `used`: how many there are, with those of other branches as far as they are known.
    """

    def __init__(self, most: int, used: int = 0) -> None:
        self.most = most
        self._warns_at = warns_at(most)
        # True at the step at which the bound comes near.
        self.nears = False
        self._uses: Counter[str] = Counter()
        self.used = used
        self._in_flight: set[str] = set()

    def check(self, id: str, outer: Slot | None, *, alone: bool) -> None:
        """Raise StepMisuse for a bad id, a step in a step, or (`alone`) one id in flight twice."""
        check_step_id(id)
        if outer is not None:
            raise StepMisuse(f"step {id!r} was called inside step {outer.key!r}; call it after, or in the handler")
        if alone and id in self._in_flight:
            raise StepMisuse(f"step id {id!r} is in flight twice at once; give each its own id")

    def key(self, id: str) -> str:
        """The key of the next use. Raises BoundExceeded past the bound."""
        used = self._uses[id]
        self._uses[id] = used + 1
        self.spend(1)
        return id if used == 0 else f"{id}:{used}"

    def spend(self, count: int) -> None:
        """So many steps more. Raises BoundExceeded."""
        self.nears = self.used < self._warns_at <= self.used + count
        self.used += count
        if self.used > self.most:
            raise BoundExceeded("steps in a run", self.most, self.used, "Raise flows_max_steps.")

    def take_off(self, id: str) -> None:
        """The id is in flight."""
        self._in_flight.add(id)

    def land(self, id: str) -> None:
        """The id is free again."""
        self._in_flight.discard(id)


class BranchIds(StepIds):
    """The ids of one branch: its steps are named below its path."""

    def __init__(self, most: int, path: str, used: int) -> None:
        super().__init__(most, used)
        self._path = path

    def key(self, id: str) -> str:
        """The key of the next use, below the branch."""
        return f"{self._path}/{super().key(id)}"
