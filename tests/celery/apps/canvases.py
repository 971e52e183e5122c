"""A table of canvases, and each as a flow: `celery -A tests.celery.apps.canvases`. Run both ways they give the same."""

import json
import os
from collections.abc import Callable
from typing import Any

from celery import Celery, chain, chord, group, signature

from celeryflows import Flows
from tests.celery.apps.sheet import gate, witness

# The app that was made last: Celery sends what has no app by the current one, which is another.
made: list[Celery] = []


def s(name: str, *args: Any, **kwargs: Any) -> Any:
    return signature(f"canvases.{name}", args=args, kwargs=kwargs, app=made[-1])


def si(name: str, *args: Any) -> Any:
    return signature(f"canvases.{name}", args=args, immutable=True, app=made[-1])


def add(x: int, y: int = 0) -> int:
    return x + y


def mul(x: int, y: int) -> int:
    return x * y


def total(values: list[int]) -> int:
    return sum(values)


def same(value: Any) -> Any:
    return value


def shown(*args: Any, **kwargs: Any) -> list[Any]:
    """What it was called with."""
    return [list(args), kwargs]


def seven() -> int:
    return 7


def fragile(value: Any, name: str) -> Any:
    """Fails until it is mended."""
    witness("fragile", name)
    if not gate(f"mended {name}").exists():
        raise ValueError(f"{name} is broken")
    return value


def told(request: Any, error: Any, trace: Any) -> None:
    """An errback."""
    witness("told", type(error).__name__)


def noted(value: Any) -> None:
    """A callback."""
    witness("noted", value)


TASKS = (add, mul, total, same, shown, seven, fragile, told, noted)

PAIRS = [(1, 2), (3, 4), (5, 6)]
TABLE: dict[str, Callable[[Any], Any]] = {
    "chain": lambda t: chain(s("add", 1, 2), s("mul", 4)),
    "chain of one": lambda t: chain(s("add", 1, 1)),
    "chain in chain": lambda t: chain(chain(s("add", 1, 1), s("add", 1)), chain(s("add", 2), s("mul", 2))),
    "keywords": lambda t: chain(s("shown", 1, k=2), s("shown", 3, j=4)),
    "null": lambda t: chain(s("same", None), s("shown")),
    "tuple": lambda t: chain(s("same", (1, 2)), s("shown")),
    "group": lambda t: group(s("add", 1, 1), s("add", 2, 2)),
    "group of one": lambda t: group(s("add", 1, 1)),
    "group in group": lambda t: group(group(group(s("same", 1), s("same", 2)), s("same", 3)), s("same", 4)),
    "empty group": lambda t: group([], app=made[-1]),
    "group after a task": lambda t: chain(s("add", 1, 1), group(s("add", 1), s("mul", 3))),
    "group of one after a task": lambda t: chain(s("add", 1, 1), group(s("shown"))),
    "group of one, then a task": lambda t: chain(group(s("add", 1, 1)), s("shown")),
    "group, then a task": lambda t: group(s("add", 1, 1), s("add", 2, 2)) | s("shown"),
    "group of one | task": lambda t: group(s("add", 1, 1)) | s("shown"),
    "group between tasks": lambda t: chain(s("add", 1, 1), group(s("add", 1), s("mul", 3)), s("total")),
    "group after a group": lambda t: chain(group(s("add", 1, 1), s("add", 2, 2)), group(s("total"), s("shown"))),
    "groups, then a task": lambda t: chain(
        group(s("add", 1, 1), s("add", 2, 2)), group(s("total"), s("shown")), s("shown")
    ),
    "empty group first": lambda t: chain(group([], app=made[-1]), s("shown")),
    "empty group between": lambda t: chain(s("add", 1, 1), group([], app=made[-1]), s("shown")),
    "group of a chain that ends in a group": lambda t: group(chain(s("add", 1, 1), group(s("add", 1), s("add", 2)))),
    "such a chain beside a task": lambda t: group(
        chain(s("add", 1, 1), group(s("add", 1), s("add", 2))), s("add", 9, 9)
    ),
    "nested group at a chain's end": lambda t: chain(
        s("add", 1, 1), group(s("add", 1), group(s("add", 2), s("add", 3)), s("add", 4))
    ),
    "chord": lambda t: chord([s("add", 1, 1), s("add", 2, 2)], s("total")),
    "chord of one": lambda t: chord([s("add", 1, 1)], s("shown")),
    "empty chord": lambda t: chord([], s("shown")),
    "chord over nested groups": lambda t: chord(
        [s("same", 0), group(group(s("same", 1), s("same", 2)), s("same", 3)), s("same", 4)], s("shown")
    ),
    "chord over chains": lambda t: chord([chain(s("add", 1, 1), s("mul", 2)), s("add", 5, 5)], s("total")),
    "chord over a chain that ends in a group": lambda t: chord(
        [chain(s("add", 1, 1), group(s("add", 1), s("add", 2))), s("add", 7, 7)], s("shown")
    ),
    "chord over a chord": lambda t: chord(
        [chord([s("add", 1, 1), s("add", 2, 2)], s("total")), s("add", 3, 3)], s("total")
    ),
    "chord with a chain behind": lambda t: chord([s("add", 1, 1), s("add", 2, 2)], chain(s("total"), s("mul", 2))),
    "chord with a group behind": lambda t: chord([s("add", 1, 1), s("add", 2, 2)], group(s("total"), s("shown"))),
    "chord with a nested group behind": lambda t: chord(
        [s("add", 1, 1), s("add", 2, 2)], group(s("total"), group(s("shown"), s("total")))
    ),
    "chord in a chain": lambda t: chain(s("add", 1, 1), chord([s("add", 1), s("mul", 3)], s("total")), s("mul", 10)),
    "chord of one after a task": lambda t: chain(s("add", 1, 1), chord([s("add", 1)], s("shown"))),
    "chords in a group": lambda t: group(chord([s("add", 1, 1), s("add", 2, 2)], s("total")), s("add", 1, 1)),
    "immutable in a chain": lambda t: chain(s("add", 1, 1), si("seven"), s("add", 1)),
    "immutable in a group": lambda t: chain(s("add", 1, 1), group(si("seven"), s("add", 1))),
    "immutable body": lambda t: chord([s("add", 1, 1), s("add", 2, 2)], si("seven")),
    "map": lambda t: t["canvases.total"].map([[1, 2], [3]]),
    "starmap": lambda t: t["canvases.add"].starmap(PAIRS),
    "map after a task": lambda t: chain(si("seven"), t["canvases.add"].map([1, 2])),
    "map before a task": lambda t: chain(t["canvases.add"].map([1, 2]), s("total")),
    "map in a chord": lambda t: chord([t["canvases.add"].map([1, 2]), s("same", [3])], s("shown")),
    "chunks": lambda t: t["canvases.add"].chunks(PAIRS, 2),
    "chunks as a group": lambda t: t["canvases.add"].chunks(PAIRS, 2).group(),
    "chunks in a chain": lambda t: chain(si("seven"), t["canvases.add"].chunks(PAIRS, 2).group(), s("shown")),
    "partial arguments of a group": lambda t: chain(s("same", 5), group(s("shown", 1), s("shown", 2, k=3))),
    "stringed": lambda t: s("add", 1, 1) | s("add", 2) | group(s("mul", 2), s("mul", 3)) | s("total") | s("add", 1),
}


def built(data: Any) -> Any:
    """As many tasks as the event asks for."""
    witness("built", data["n"])
    return chord([s("mul", n, 2) for n in range(data["n"])], s("total"))


def steps(ctx: Any) -> Any:
    """A canvas as one step among others."""
    before = ctx.step.run("before", lambda: 1)
    found = ctx.step.task("sum", chord([s("add", before, 1), s("add", 2, 2)], s("total")))
    return ctx.step.task("end", chain(s("add", found, 1), s("fragile", ctx.run_id)))


def make(settings: dict[str, Any]) -> Celery:
    """The app with its Flows."""
    app = Celery("canvases", set_as_current=False)
    app.conf.update(settings)
    made.append(app)
    flows = Flows(app)
    for fn in TASKS:
        app.task(name=f"canvases.{fn.__name__}", shared=False)(fn)
    app.finalize()
    for name, row in TABLE.items():
        flows.from_canvas(row(app.tasks), name=f"canvas {name}")
    flows.from_canvas(built, name="canvas built", trigger="canvas/asked")
    fragile_ones = group(s("fragile", 1, "left"), chain(s("fragile", 2, "right"), s("add", 5)), s("same", 3))
    fragile_ones.tasks[0].link_error(s("told"))
    body = s("total").on_error(s("told"))
    flows.from_canvas(chord(fragile_ones, body), name="canvas fragile")
    linked = chain(s("add", 1, 1), s("add", 2))
    linked.link(s("noted"))
    linked.link_error(s("told"))
    flows.from_canvas(linked, name="canvas linked")
    flows.flow(steps, name="canvas steps")
    flows.flow(lambda ctx: ctx.step.sleep("nap", "100ms") or ctx.event.data["value"] * 2, name="canvases.doubled")
    flows.from_canvas(chain(s("add", 1, 1), s("doubled"), s("add", 1)), name="canvas with a flow")
    return app


app = make(json.loads(os.environ["APP_SETTINGS"])) if "APP_SETTINGS" in os.environ else None
