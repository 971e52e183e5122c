"""Steps of a rerun whose arguments somebody edited: read with the memos, put in place of the handler's."""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from celeryflows.codec import loads
from celeryflows.model.reruns import StepInput
from celeryflows.store.connection import Connection


def read_edited(connection: Connection, run_id: str) -> dict[str, StepInput]:
    """The edited arguments of the run's steps, by key."""
    found = connection.repeat(lambda: connection.reruns.inputs(run_id))
    return {key: StepInput(tuple(value["args"]), value["kwargs"]) for key, value in _decoded(found)}


def _decoded(found: dict[str, str]) -> list[tuple[str, Any]]:
    return [(key, loads(text)) for key, text in found.items()]


def with_input(body: Callable[..., Any], edited: StepInput, *, ours: int = 0) -> Callable[..., Any]:
    """The body, called with the edited arguments whatever the handler gives.

    `ours`: how many arguments in front are no handler's, such as a transaction's connection.
    """

    def call(*args: Any, **_kwargs: Any) -> Any:
        return body(*args[:ours], *edited.args, **edited.kwargs)

    async def acall(*args: Any, **_kwargs: Any) -> Any:
        return await body(*args[:ours], *edited.args, **edited.kwargs)

    return acall if iscoroutinefunction(body) else call
