"""What a step was called with, as it is recorded for people to look at: bounded, and never the step's undoing."""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from celeryflows.codec import dumps
from celeryflows.engine.slots import Slot
from celeryflows.errors import FlowsError

# Beside the step's value, and not within the bounds of values: it has to be small.
MOST = 16 * 1024


def remembering(slot: Slot, body: Callable[..., Any], *, ours: int = 0) -> Callable[..., Any]:
    """The body, which notes on the slot what it is called with, before it can change that.

    `ours`: how many arguments in front are no handler's, such as a transaction's connection.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        slot.given = given_text(args[ours:], kwargs)
        return body(*args, **kwargs)

    async def acall(*args: Any, **kwargs: Any) -> Any:
        slot.given = given_text(args[ours:], kwargs)
        return await body(*args, **kwargs)

    return acall if iscoroutinefunction(body) else call


def given_text(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The arguments as JSON: the list, or with keywords both; what has no JSON form by its type."""
    value = {"args": list(args), "kwargs": kwargs} if kwargs else list(args)
    try:
        text = dumps(value)
    except (FlowsError, ValueError, TypeError, RecursionError):
        shown = [_shown(one) for one in args]
        named = {name: _shown(one) for name, one in kwargs.items()}
        text = dumps({"args": shown, "kwargs": named} if kwargs else shown)
    return text if len(text) <= MOST else dumps(f"{len(text):,} characters, more than the {MOST:,} that are recorded")


def _shown(value: Any) -> Any:
    try:
        dumps(value)
    except (FlowsError, ValueError, TypeError, RecursionError):
        return f"<{type(value).__qualname__}>"
    return value
