"""The way through a canvas: what its members have come to decides who is next. It only asks; the journal does."""

from collections.abc import Callable
from typing import Any

from celeryflows.errors import StepError
from celeryflows.model.canvases import Line, Node, Parallel, first_calls, member_names, place_of
from celeryflows.model.remote_tasks import TaskCall
from celeryflows.steps import Failed, Parked, Result, Value

# Stands at a member, by its name and place: its value, its error, or parked.
StandAt = Callable[[str, TaskCall, str], Result]
# The header of a chord has failed, and this body is not sent.
NotSent = Callable[[str, TaskCall, StepError], None]


class CanvasWalk:
    """One turn's walk. Every member that can be sent is stood at before the walk comes back."""

    def __init__(self, plan: Node, stand_at: StandAt, not_sent: NotSent) -> None:
        self._plan = plan
        self._names = member_names(plan)
        self._stand_at = stand_at
        self._not_sent = not_sent

    def result(self) -> Result:
        """What the canvas has come to."""
        return self._at(self._plan, "", ())

    def _at(self, node: Node, place: str, given: tuple[Any, ...]) -> Result:
        if isinstance(node, Line):
            return self._line(node, place, given)
        if isinstance(node, Parallel):
            return self._parallel(node, place, given)
        return self._stand_at(self._names[place], node.given(*given) if given else node, place)

    def _line(self, line: Line, place: str, given: tuple[Any, ...]) -> Result:
        result: Result = Value(None)
        for number, part in enumerate(line.parts):
            result = self._at(part, place_of(line, place, number), given)
            if not isinstance(result, Value):
                if isinstance(result, Failed) and isinstance(part, Parallel):
                    self._tell_body(line, place, number + 1, result.error)
                return result
            given = (result.value,)
        return result

    def _tell_body(self, line: Line, place: str, number: int, error: StepError) -> None:
        if number < len(line.parts):
            for its_place, call in first_calls(line.parts[number], place_of(line, place, number)):
                self._not_sent(self._names[its_place], call, error)

    def _parallel(self, parallel: Parallel, place: str, given: tuple[Any, ...]) -> Result:
        results = [self._at(part, place_of(parallel, place, i), given) for i, part in enumerate(parallel.parts)]
        if any(isinstance(result, Parked) for result in results):
            return Parked()
        errors = [result.error for result in results if isinstance(result, Failed)]
        if not errors:
            return Value([result.value for result in results if isinstance(result, Value)])
        first, *others = errors
        for other in others:
            first.add_note(str(other))
        return Failed(first)
