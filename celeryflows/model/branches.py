"""Groups and their branches: how they are named, and which step ids they leave to the user. Pure.

A branch's path is its group's with the position, `group[2]`; what it does is named below: `group[2]/charge`."""

import re
from dataclasses import dataclass

from celeryflows.errors import BoundExceeded, StepMisuse
from celeryflows.model.steps import Kind

PATH_BOUND = 230
GROUPS = frozenset({Kind.PARALLEL, Kind.RACE})
_NAME = re.compile(r"[\w .-]{1,64}")


@dataclass(frozen=True, slots=True)
class NewGroup:
    """A group to open: its path, its kind and how many branches it has."""

    path: str
    kind: str
    count: int

    @property
    def branches(self) -> list[str]:
        """The paths of its branches."""
        return [branch_path(self.path, index) for index in range(self.count)]


def group_id(name: str | None) -> str:
    """The step id of a group. Raises StepMisuse for a name that does not fit."""
    if name is None:
        return "group"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise StepMisuse(f"a group's name is of 1 to 64 letters, digits, blanks and any of '._-', got {name!r:.80}")
    return f"group.{name}"


def branch_path(group: str, index: int) -> str:
    """The path of one branch. Raises BoundExceeded where groups are nested too deep."""
    path = f"{group}[{index}]"
    if len(path) > PATH_BOUND:
        raise BoundExceeded("characters in the path of nested groups", PATH_BOUND, len(path), "Nest fewer groups.")
    return path


def group_of(path: str) -> str:
    """The group that a branch belongs to."""
    return path[: path.rindex("[")]


def index_of(path: str) -> int:
    """The branch's position in its group."""
    return int(path[path.rindex("[") + 1 : -1])


def parent_of(path: str) -> str:
    """The unit that opened the branch's group: an outer branch, or '' for the run itself."""
    return group_of(path).rpartition("/")[0]


def lineage(path: str) -> list[str]:
    """The branch and all around it, the outermost first."""
    return [*lineage(parent_of(path)), path] if path else []
