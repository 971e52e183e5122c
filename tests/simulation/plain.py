"""The plain reading of a program: no store, no turns, no crashes. What it gives is what the run has to give.

What the world decides (which event a wait got, which step lost its workers) is taken from what the run saw."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulation.programs import (
    LOST,
    Again,
    Block,
    Fail,
    Flaky,
    Gather,
    Group,
    Invoke,
    Loop,
    Op,
    Program,
    Send,
    SignalWait,
    Sleep,
    Step,
    Task,
    Try,
    Wait,
    boom,
)

Seen = tuple[Any, ...]


@dataclass(frozen=True)
class End:
    """How a run ends: its value, or the name and text of its error, or as another run that goes on."""

    value: Any = None
    error: tuple[str, str] | None = None
    goes_on: bool = False


class PlainAgain(BaseException):
    """Another run goes on."""


class PlainError(Exception):
    """The handler's own error."""


class PlainStepError(Exception):
    """A step whose attempts are spent."""

    def __init__(self, key: str, name: str, text: str) -> None:
        super().__init__(key, name, text)
        self.key, self.name, self.text = key, name, text


def evaluate(program: Program, seen: Mapping[str, Seen], times: int = 0) -> End:
    """The end of the run; `seen` is what its handler was given, by step key, `times` how many went before it."""
    for attempt in range(program.retries + 1):
        reading = _Reading(program, seen, attempt, times)
        out: list[Any] = []
        try:
            reading.block(program.body, "", out)
        except PlainAgain:
            return End(goes_on=True)
        except PlainStepError as error:
            return End(error=(error.name, error.text))
        except PlainError as error:
            if attempt == program.retries:
                return End(error=("ValueError", str(error)))
        else:
            return End(out)
    raise AssertionError("the last attempt ends the run")


class _Reading:
    def __init__(self, program: Program, seen: Mapping[str, Seen], attempt: int, times: int) -> None:
        self._times = times
        self._retries = program.retries
        self._seen = seen
        self._attempt = attempt
        self._uses: Counter[str] = Counter()

    def block(self, block: Block, path: str, out: list[Any]) -> None:
        for op in block:
            self._op(op, path, out)

    def _op(self, op: Op, path: str, out: list[Any]) -> None:
        match op:
            case Step() | Task():
                key = self._key(path, op.id)
                out.append(self._step(op, key) if isinstance(op, Step) else self._task(op, key))
            case Sleep() | Send():
                self._key(path, op.id)
                out.append(op.count if isinstance(op, Send) else None)
            case Wait() | Invoke() | SignalWait():
                out.append(self._told(self._key(path, op.id)))
            case Fail() | Flaky() | Again():
                self._leave(op)
            case Loop():
                for _ in range(op.times):
                    self.block(op.body, path, out)
            case Try():
                self._try(op, path, out)
            case Gather() | Group():
                out.append(self._together(op, path))

    def _leave(self, op: Fail | Flaky | Again) -> None:
        if isinstance(op, Fail):
            raise PlainError(op.text)
        if isinstance(op, Again):
            if self._times < op.times:
                raise PlainAgain
        elif self._attempt < op.times:
            raise PlainError(f"flaky {op.times}")

    def _key(self, path: str, id: str) -> str:
        used = self._uses[path + id]
        self._uses[path + id] += 1
        return f"{path}{id}:{used}" if used else path + id

    def _step(self, op: Step, key: str) -> Any:
        if self._seen.get(key) == ("error", "RuntimeError", LOST):
            raise PlainStepError(key, "RuntimeError", LOST)
        if op.end == "never" or op.failures > self._retries:
            raise PlainStepError(key, "ValueError", boom(key))
        if op.end == "fatal":
            raise PlainStepError(key, "NonRetriableError", boom(key))
        return ["did", key]

    def _task(self, op: Task, key: str) -> Any:
        """The task that fails, else the one that gives the value."""
        if op.fails:
            failed = {"one": key, "line": f"{key}/t", "chord": f"{key}/t:1"}[op.shape]
            raise PlainStepError(failed, "ValueError", boom(failed))
        return ["did", {"one": key, "line": f"{key}/t:1", "chord": f"{key}/t:2"}[op.shape]]

    def _told(self, key: str) -> Any:
        """What others decide; that may be an error too."""
        if key not in self._seen:
            raise AssertionError(f"the plain reading comes to {key!r}, which the run never saw the end of")
        what, *told = self._seen[key]
        if what == "error":
            raise PlainStepError(key, *told)
        return told[0]

    def _try(self, op: Try, path: str, out: list[Any]) -> None:
        try:
            self.block(op.body, path, out)
        except PlainStepError as error:
            if op.catches == "nothing":
                raise
            out.append(["caught", error.name, error.text])
            self.block(op.handler, path, out)
        except PlainError as error:
            if op.catches in ("nothing", "StepError"):
                raise
            out.append(["caught", "ValueError", str(error)])
            self.block(op.handler, path, out)
        finally:
            self.block(op.final, path, out)

    def _together(self, op: Gather | Group, path: str) -> Any:
        """Which branch of a race was first, the world decides."""
        if isinstance(op, Gather):
            return [self._branch(branch, f"{path}{i}.") for i, branch in enumerate(op.branches)]
        key = self._key(path, "group")
        if op.kind == "race":
            won = self._seen[key][1]
            return [won, self._own_branch(op.branches[won], f"{key}[{won}]/")]
        values, errors = [], []
        for i, branch in enumerate(op.branches):
            try:
                values.append(self._own_branch(branch, f"{key}[{i}]/"))
            except PlainStepError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return values

    def _own_branch(self, branch: Block, path: str) -> list[Any]:
        out: list[Any] = []
        try:
            self.block(branch, path, out)
        except PlainError as error:
            raise PlainStepError(path, "ValueError", str(error)) from error
        return out

    def _branch(self, branch: Block, path: str) -> Any:
        out: list[Any] = []
        try:
            self.block(branch, path, out)
        except PlainStepError as error:
            return ["failed", error.name, error.text]
        except PlainError as error:
            return ["failed", "ValueError", str(error)]
        return out
