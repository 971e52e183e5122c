"""Flows for tests of our own events: one that listens to the ends of others, and one that breaks."""

from typing import Any

from tests.engine.world import Process


def listen(process: Process, name: str, *triggers: Any) -> list[dict[str, Any]]:
    """A flow that notes the data of what starts it."""
    heard: list[dict[str, Any]] = []
    process.flow(name=name, trigger=list(triggers))(lambda ctx: heard.append(ctx.event.data))
    return heard


def breaks(ctx: Any) -> None:
    """A handler that fails."""
    raise ValueError(f"no {ctx.event.data.get('n')}")
