"""What a rerun from a step keeps: which step is meant, which memos came before it, and edited arguments."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celeryflows.errors import RerunRefused
from celeryflows.model.canvases import follows
from celeryflows.model.steps import Kind, State, id_in_branch

_COUNT = re.compile(r":\d+\Z")
_SHOWN = 20
# How a wait ended that was over before its run was.
SETTLED = ("answered", "expired", "replaced")
# How a group stands that waits for no branch any more.
OVER = ("done", "won")
# What calls a function of the user's, and with which arguments.
CALLS = frozenset({str(Kind.RUN), str(Kind.TRANSACTION)})


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """A step of the run that is rerun, in the order of the record.

    `wait` is how its wait stands, if it has one, and `group` how the group does that it opened; `place` is where a
    task stands in its canvas.
    """

    key: str
    kind: str
    state: str
    began: int
    wait: str | None = None
    group: str | None = None
    place: str = ""

    @property
    def canvas(self) -> str | None:
        """The key of the canvas that it is a member of, '' where that is the whole flow."""
        return self.key.rpartition("/")[0] if self.place else None

    @property
    def settled(self) -> bool:
        """True when it can be answered from the record."""
        if self.state in (State.DONE, State.FAILED):
            return True
        return self.wait in SETTLED or self.group in OVER or (self.kind == Kind.SLEEP and self.state == State.WAITING)


@dataclass(frozen=True, slots=True)
class StepInput:
    """Arguments in place of those that the handler gives."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def json(self) -> dict[str, Any]:
        """As stored."""
        return {"args": list(self.args), "kwargs": dict(self.kwargs)}


def read_input(value: object) -> StepInput:
    """A list is the positional arguments, a mapping the keyword arguments, {"args": [...], "kwargs": {...}} both.

    Raises RerunRefused for anything else.
    """
    if isinstance(value, Mapping):
        named = set(value) <= {"args", "kwargs"} and bool(value)
        args, kwargs = (value.get("args", ()), value.get("kwargs", {})) if named else ((), value)
    else:
        args, kwargs = value, {}
    if not isinstance(args, list | tuple) or not isinstance(kwargs, Mapping) or not _are_names(kwargs):
        raise RerunRefused(
            'input is a list (the arguments), a mapping (the keyword arguments) or {"args": [...], "kwargs": {...}}, '
            f"got {value!r:.60}"
        )
    return StepInput(tuple(args), dict(kwargs))


def _are_names(kwargs: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) for name in kwargs)


def find_step(asked: str, keys: Sequence[str], branches: Sequence[str] = ()) -> str:
    """The key of the step that is meant: its exact key, or its id when the run used that once.

    The first use of a repeated id is `id:0`. `branches` are the run's branches, whose steps go by their id too.
    Raises RerunRefused, with the candidates, for an id that was used several times or never.
    """
    if asked.endswith(":0") and asked[:-2] in keys:
        return asked[:-2]
    found = [key for key in keys if asked in _names(key, branches)]
    if asked in found and (len(found) == 1 or _COUNT.search(asked)):
        return asked
    if len(found) == 1:
        return found[0]
    if found:
        candidates = tuple(f"{key}:0" if f"{key}:1" in keys or key == asked else key for key in found)
        raise RerunRefused(f"step {asked!r} is one of several: {_listed(candidates)}. Name one of them.", candidates)
    known = _listed(keys) or "none: the run recorded no step"
    raise RerunRefused(f"no step {asked!r} was recorded in this run. Its steps: {known}", tuple(keys))


def _names(key: str, branches: Sequence[str]) -> Iterator[str]:
    for name in (key, *(key[len(path) + 1 :] for path in branches if key.startswith(f"{path}/"))):
        yield name
        yield _COUNT.sub("", name)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


@dataclass(frozen=True, slots=True)
class BranchPath:
    """A branch of a group: its own path, its group's, and its place in it."""

    path: str
    group: str


def first_member(asked: str, steps: Sequence[RecordedStep]) -> str | None:
    """The first member of the canvas that is meant, None when no canvas of one step has that id."""
    return next((s.key for s in steps if s.canvas and asked in (s.canvas, id_in_branch(s.canvas))), None)


def kept_steps(
    steps: Sequence[RecordedStep], start: str, branches: Sequence[BranchPath] = (), *, whole: bool = False
) -> list[str]:
    """The keys whose memos a rerun from `start` keeps: what was recorded before it, its group's other branches, and in
    a canvas all that does not take from it, unless the canvas is meant as a `whole`.

    `steps` stand in the order in which they began. What is not settled is asked for anew.
    """
    place = next(i for i, step in enumerate(steps) if step.key == start)
    own, first = _groups(start, branches), steps[place]
    kept = []
    for i, step in enumerate(steps):
        theirs = _groups(step.key, branches)
        beside = any(theirs.get(group, path) != path for group, path in own.items())
        if first.canvas is not None and step.canvas == first.canvas:
            beside = not whole and not follows(step.place, first.place)
        # The groups around the step are opened anew: their branches are repeated from what they remember.
        if step.settled and i != place and step.key not in own and (i < place or beside):
            kept.append(step.key)
    return kept


def _groups(key: str, branches: Sequence[BranchPath]) -> dict[str, str]:
    """The branches that the step stands in, by their groups."""
    return {branch.group: branch.path for branch in branches if key.startswith(f"{branch.path}/")}
