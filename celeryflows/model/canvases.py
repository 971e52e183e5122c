"""A canvas of tasks as a tree: lines are run one after the other, parallels at once. Frozen values, no I/O."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from celeryflows.model.remote_tasks import TaskCall

LABEL_BOUND = 100
_ODD = re.compile(r"[/:\[\]\s]+")


@dataclass(frozen=True, slots=True)
class Line:
    """Each part takes the value of the one before; the last one's is the line's. A parallel that something follows is a
    chord's header."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Parallel:
    """All parts take the same, and their values are a list in order."""

    parts: tuple["Node", ...]


Node = TaskCall | Line | Parallel


def leaves(node: Node, place: str = "") -> Iterator[tuple[str, TaskCall]]:
    """Every call with its place, such as `s0.p1`: the second branch of the first part; '' for a call alone."""
    if isinstance(node, TaskCall):
        yield place, node
        return
    for number, part in enumerate(node.parts):
        yield from leaves(part, place_of(node, place, number))


def place_of(node: Line | Parallel, place: str, number: int) -> str:
    """The place of a node's part."""
    step = f"{'s' if isinstance(node, Line) else 'p'}{number}"
    return f"{place}.{step}" if place else step


def member_names(plan: Node) -> dict[str, str]:
    """By place, the name of each member: its task's short name, counted as repeated step ids are."""
    used: Counter[str] = Counter()
    found = {}
    for place, call in leaves(plan):
        label = _ODD.sub("_", call.label)[:LABEL_BOUND] or "task"
        found[place] = label if not used[label] else f"{label}:{used[label]}"
        used[label] += 1
    return found


def first_calls(node: Node, place: str) -> list[tuple[str, TaskCall]]:
    """The calls that a node begins with, and their places."""
    if isinstance(node, TaskCall):
        return [(place, node)]
    parts = node.parts[:1] if isinstance(node, Line) else node.parts
    found = (first_calls(part, place_of(node, place, number)) for number, part in enumerate(parts))
    return [call for calls in found for call in calls]


def gives_list(node: Node) -> bool:
    """True when its value is a parallel's list."""
    if isinstance(node, Line):
        return bool(node.parts) and gives_list(node.parts[-1])
    return isinstance(node, Parallel)


def closed(node: Node) -> Node:
    """The node, taking nothing of what came before it."""
    if isinstance(node, TaskCall):
        return replace(node, immutable=True)
    if isinstance(node, Line):
        return Line((closed(node.parts[0]), *node.parts[1:])) if node.parts else node
    return Parallel(tuple(closed(part) for part in node.parts))


def follows(place: str, other: str) -> bool:
    """True when what stands at a place takes, near or far, from what stands at the other one."""
    for mine, theirs in zip(place.split("."), other.split("."), strict=False):
        if mine != theirs:
            return mine.startswith("s") and int(mine[1:]) > int(theirs[1:])
    return False
