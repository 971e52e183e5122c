"""What a handler is given: the event, the run, and the step tools."""

import logging
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

from celeryflows.async_steps import AsyncSteps
from celeryflows.model.events import Event
from celeryflows.steps import Steps

_logger = logging.getLogger("celeryflows.run")


class Replay(Protocol):
    """Tells whether the handler is repeating what it did in an earlier turn."""

    @property
    def replaying(self) -> bool:
        """True until the first step that is not remembered."""
        ...

    @property
    def attempt(self) -> int:
        """0-based attempt of the step at hand, else of the body."""
        ...

    @property
    def max_attempts(self) -> int:
        """How many attempts the step at hand has, else the body."""
        ...


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Silent while replaying, so that a line appears once over all turns of a run."""

    def __init__(self, replay: Replay, run_id: str) -> None:
        super().__init__(_logger, {"run_id": run_id})
        self._replay = replay

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        """False while replaying."""
        return not self._replay.replaying and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Name the run in front of each line."""
        return f"[run {(self.extra or {})['run_id']}] {msg}", kwargs


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The fixed facts of a run."""

    run_id: str
    flow: str
    version: str | None


class Context:
    """The handler's one argument.

    `event` is the trigger and `events` all of a batch; `run_id`, `flow` and `version` name the run (the version it
    started under); `attempt` is 0-based and `max_attempts` is retries + 1, the step's inside a step, else the body's;
    `step` holds the step tools and `group` parallel and race; `logger` is silent while replaying; `continue_as_new`
    ends the run and starts its successor.
    """

    def __init__(self, event: Event, info: RunInfo, replay: Replay, step: Any, group: Any) -> None:
        self.event = event
        self.events = [event]
        self.run_id = info.run_id
        self.flow = info.flow
        self.flow_id = info.flow
        self.version = info.version
        self.step: Any = step
        self.group: Any = group
        self.logger = RunLogger(replay, info.run_id)
        self._replay = replay

    def continue_as_new(self, data: Any = None) -> Any:
        """End this run, and go on as a new one of the same flow, of its newest version, with this event data.

        For what never ends, or passes the bound of steps: `ctx.continue_as_new({"page": page + 1})`, awaited in async
        flows. `data` is a mapping, a model, an Event or any other value, as `.delay()` takes it; the event keeps its
        name. Nothing behind this line runs. A caller that waits for this run gets the value of the last one.
        """
        return self.step._continue_as_new(data)

    @property
    def attempt(self) -> int:
        """0-based: the attempt of the step at hand, else of the body."""
        return self._replay.attempt

    @property
    def max_attempts(self) -> int:
        """Retries + 1: of the step at hand, else of the body."""
        return self._replay.max_attempts


__all__ = ["AsyncSteps", "Context", "RunInfo", "RunLogger", "Steps"]
