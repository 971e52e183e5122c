"""The flows whose runs are in the corpus, one for each way to stand open, and what happens to them.

They stay as they are: what is new gets a flow of its own, for the runs of the next version."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from celeryflows import (
    Batch,
    CancelOn,
    Concurrency,
    Debounce,
    Event,
    InvokeError,
    NonRetriableError,
    StepError,
    Throttle,
)
from tests.engine.world import World

Handler = Callable[[Any], Any]


@dataclass
class Address:
    """Kept as an object of JSON."""

    street: str
    number: int


VALUES = {
    "nothing": None,
    "text": "grüße 🌍 \x00 \u2028",
    "number": [0, -1, 2**63 - 1, 0.1, 1e300],
    "moment": datetime(2024, 2, 29, 12, 30, 1, 2, tzinfo=UTC),
    "span": timedelta(days=1, microseconds=3),
    "money": Decimal("12.30"),
    "id": UUID("12345678-1234-5678-1234-567812345678"),
    "bytes": b"\x00\xff",
    "set": {3, 1, 2},
    "pair": (1, "b"),
    "address": Address("Elm", 7),
}


def values(ctx: Any) -> Any:
    """Every kind of value, read back by each later turn."""
    kept = {name: ctx.step.run(f"keep {name}", lambda value=value: value) for name, value in VALUES.items()}
    ctx.step.sleep("nap", "1 day")
    return {name: [type(value).__name__, repr(value)] for name, value in kept.items()}


def errors(ctx: Any) -> Any:
    """Errors that were caught, tried again, and the one that ends it."""
    told = []
    for _ in range(2):
        try:
            ctx.step.run("bad", fail, "no stock")
        except StepError as error:
            told.append([error.step_id, error.name, error.message])
    ctx.step.sleep("nap", "1 day")
    ctx.step.run("last", fail, f"after {told}")


def fail(words: str) -> None:
    raise NonRetriableError(words)


def tries(ctx: Any) -> Any:
    """Between two attempts of a step."""
    return ctx.step.using(retries=3).run("again", third_time, ctx)


def third_time(ctx: Any) -> int:
    if ctx.attempt < 2:
        raise ValueError(f"attempt {ctx.attempt}")
    return int(ctx.attempt)


def body(ctx: Any) -> Any:
    """Between two attempts of its body."""
    first = ctx.step.run("first", lambda: ctx.attempt)
    if ctx.attempt < 2:
        raise ValueError("the body's own")
    return [first, ctx.attempt]


def waits(ctx: Any) -> Any:
    """An event by value, one by condition, one that does not come, and a signal."""
    n = ctx.event.data["n"]
    by_value = ctx.step.wait_for_event("by value", event="corpus/answered", match="data.n", timeout="9 days")
    by_condition = ctx.step.wait_for_event(
        "by condition", event="corpus/counted", if_exp="async.data.count > event.data.n", timeout="9 days"
    )
    never = ctx.step.wait_for_event("never", event="corpus/never", timeout="1 day")
    told = ctx.step.wait_for_signal("signal", f"corpus {n}", timeout="9 days")
    ctx.step.send_event("tell", [])
    return [by_value.data, by_condition.data, never, told and told.data]


def groups(ctx: Any) -> Any:
    """Branches that sleep, wait and race, in a group."""
    asleep = partial(ctx.step.sleep, "nap", "1 day")
    answer = partial(ctx.step.wait_for_event, "wait", event="corpus/answered", timeout="9 days")

    def inner() -> Any:
        ctx.step.run("before", lambda: "before")
        return ctx.group.race(partial(ctx.step.sleep, "long", "9 days"), lambda: answer().name)

    done = ctx.group.parallel(asleep, inner, partial(ctx.step.run, "quick", lambda: "quick"))
    return [done, ctx.step.run("after", lambda: "after")]


async def at_once(ctx: Any) -> Any:
    """Steps, a sleep and a wait of an async flow."""

    async def one(n: int) -> Any:
        first = await ctx.step.run(f"first {n}", lambda: n)
        await ctx.step.sleep(f"nap {n}", f"{n + 1} days")
        return [first, await ctx.step.run(f"last {n}", lambda: -n)]

    waited = ctx.step.wait_for_event("wait", event="corpus/answered", timeout="9 days")
    *rest, event = await asyncio.gather(one(0), one(1), waited)
    return [*rest, event.name]


def parent(ctx: Any) -> Any:
    """Waits for one that sleeps, after one that failed."""
    try:
        ctx.step.invoke("bad", "bad_child", {})
    except InvokeError as error:
        said = [error.name, error.message]
    return [said, ctx.step.invoke("child", "child", {"n": 4})]


def child(ctx: Any) -> Any:
    ctx.step.sleep("nap", "1 day")
    return ctx.event.data["n"] * 2


def bad_child(ctx: Any) -> Any:
    raise NonRetriableError("no child")


def line(ctx: Any) -> Any:
    """Goes on as a new run each day."""
    left = ctx.event.data.get("left", 3)
    ctx.step.sleep("nap", "1 day")
    return ctx.continue_as_new({"left": left - 1}) if left else "at last"


def one_by_one(ctx: Any) -> Any:
    """Of three, one rests outside its limit, and none is lost."""
    ctx.step.sleep("nap", "1 day")
    return ctx.step.run("work", lambda: ctx.event.data["n"])


def gathered(ctx: Any) -> Any:
    """Open batches and windows."""
    return sorted(event.data["n"] for event in ctx.events)


def cancelled(ctx: Any) -> Any:
    """Waits for what cancels it."""
    ctx.step.sleep("nap", "30 days")


def undone(ctx: Any) -> Any:
    """`on_failure` of errors."""
    ctx.step.sleep("nap", "1 hour")
    return ctx.event.data["error"]["message"]


FLOWS: dict[str, tuple[Handler, dict[str, Any]]] = {
    "values": (values, {}),
    "errors": (errors, {"on_failure": undone}),
    "tries": (tries, {}),
    "body": (body, {}),
    "waits": (waits, {}),
    "groups": (groups, {}),
    "at_once": (at_once, {}),
    "parent": (parent, {}),
    "line": (line, {}),
    "one_by_one": (one_by_one, {"concurrency": Concurrency(1)}),
    "throttled": (one_by_one, {"throttle": Throttle(1, "1 day")}),
    "batched": (gathered, {"batch": Batch(5, "2 days")}),
    "debounced": (gathered, {"debounce": Debounce("1 day")}),
    "cancelled": (cancelled, {"cancel_on": CancelOn("corpus/answered", match="data.n")}),
}
CHILDREN: dict[str, Handler] = {"child": child, "bad_child": bad_child}


def declare(world: World) -> None:
    """All of them, in one world."""
    for name, (handler, options) in FLOWS.items():
        world.flow(name=name, trigger=f"corpus/{name}", **options)(handler)
    for name, handler in CHILDREN.items():
        world.flow(name=name)(handler)


def begin(world: World) -> None:
    """Three runs of each, which come to where they stand open."""
    for name in FLOWS:
        world.send([Event(f"corpus/{name}", {"n": n}) for n in range(3)])


def go_on(world: World) -> None:
    """What they wait for comes, and all of their time passes."""
    world.advance("2h")
    for n in range(3):
        world.send("corpus/answered", {"n": n})
        world.send("corpus/counted", {"count": 9})
        world.advance("30h")
        world.flows.signal(f"corpus {n}", {"by": "Ann"})
    world.advance("20 days")


def ends(world: World) -> list[list[Any]]:
    """How all runs ended, without their stacks and ids."""
    found = []
    for run in world.runs():
        error = [run.error.name, run.error.message] if run.error else None
        found.append([run.flow, str(run.status), run.output, error])
    return sorted(found, key=repr)
