"""The story of a run with groups: branches that work, sleep, wait, stumble, race, invoke and take a signal."""

from collections.abc import Callable
from functools import partial
from typing import Any

from celeryflows.engine.signalling import signal
from celeryflows.model.events import Event
from tests.store.stories import PAID, Story


class Spread(Story):
    """A group of all that a branch may hold, another that is over in a moment; then a step."""

    def flows_of(self) -> dict[str, tuple[str, Callable[[Any], Any]]]:
        return {
            "order": ("shop/ordered", self.order),
            "double": ("shop/no", lambda ctx: ctx.step.run("double", lambda: self.count("double") * 2)),
        }

    def scenes(self) -> list[Callable[[], object]]:
        paid, go = self.send(Event("shop/paid", PAID)), lambda: signal(self.runtime, "shop/go", {"by": "Ann"})
        return [self.send(Event("shop/ordered", PAID)), self.pass_time, go, paid]

    def order(self, ctx: Any) -> Any:
        own = [partial(branch, ctx) for branch in (self.sequence, self.wait, self.stumble, self.race, self.go)]
        values = ctx.group.parallel(*own, partial(ctx.step.invoke, "double", "double"))
        quick = [partial(ctx.step.run, "a", self.count, f"quick {n}") for n in range(3)]
        return ctx.step.run("after", self.after, values + ctx.group.parallel(quick))

    def after(self, values: Any) -> Any:
        self.count("after")
        return values

    def sequence(self, ctx: Any) -> list[int]:
        first = ctx.step.run("a", self.count, "first")
        ctx.step.sleep("rest", "1s")
        return [first, ctx.step.run("a", self.count, "second")]

    def wait(self, ctx: Any) -> int:
        paid = ctx.step.wait_for_event("paid", event="shop/paid", match="data.order", timeout="1h")
        return int(paid.data["order"])

    def stumble(self, ctx: Any) -> int:
        if self.count("stumble") == 1:
            raise ValueError("at first")
        return int(ctx.step.run("a", self.count, "third"))

    def race(self, ctx: Any) -> Any:
        def win() -> int:
            ctx.step.sleep("short", "2s")
            return int(ctx.step.run("a", self.count, "won"))

        return ctx.group.race(partial(ctx.step.wait_for_event, "no", event="shop/no", timeout="1h"), win)

    def go(self, ctx: Any) -> str:
        return str(ctx.step.wait_for_signal("go", "shop/go", timeout="1h").data["by"])
