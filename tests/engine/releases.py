"""Releases for tests: worker processes whose code has other flows, and what the store has of them."""

from typing import Any

from tests.engine.world import Process, World


def declare(process: Process, name: str, trigger: Any = "order/paid", **options: Any) -> Process:
    process.flow(name=name, trigger=trigger, **options)(lambda ctx: ctx.event.name)
    return process


def worker(world: World, name: str, trigger: Any = "order/paid", app: str = "shop", **options: Any) -> Process:
    """A process whose code has one flow; not started yet."""
    return declare(world.process(app), name, trigger, **options)


def triggers(world: World) -> dict[str, list[str]]:
    """The events that each stored flow starts at; what was removed is left out."""
    with world.store.connection() as connection:
        flows = world.process().runtime.catalog.read(connection).flows
    return {name: [trigger.name for trigger in flow.events] for name, flow in flows.items()}
