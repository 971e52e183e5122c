"""A story of limits: runs that wait for one another at two gates, sleep outside of them, are put off and gathered."""

from collections.abc import Callable
from typing import Any

from celeryflows.engine.closing import close_due
from celeryflows.engine.finish import cancel
from celeryflows.model.events import Event
from celeryflows.model.limits import NONE, Batch, Concurrency, Debounce, Limits
from celeryflows.scheduler.doorkeeper import audit, let_in
from tests.store.stories import Story

LIMITS = {
    "order": Limits(concurrency=(Concurrency(1, key="event.data.user"), Concurrency(2))),
    "newest": Limits(debounce=Debounce("5s")),
    "gathered": Limits(batch=Batch(2, "1h")),
}


class Held(Story):
    """Six orders of three users, of which one is cancelled in its sleep; a note that is changed; a batch."""

    def flows_of(self) -> dict[str, tuple[str, Callable[[Any], Any]]]:
        return {
            "order": ("shop/ordered", self.order),
            "newest": ("shop/noted", lambda ctx: ctx.step.run("note", self.note, ctx.event.data["n"])),
            "gathered": ("shop/counted", lambda ctx: sorted(event.data["n"] for event in ctx.events)),
        }

    def limits_of(self, flow: str) -> Limits:
        return LIMITS.get(flow, NONE)

    def scenes(self) -> list[Callable[[], object]]:
        orders = [Event("shop/ordered", {"user": user, "n": n}) for n, user in enumerate("aaabbc")]
        notes = [self.send(Event("shop/noted", {"n": n})) for n in range(2)]
        counts = [self.send(Event("shop/counted", {"n": n})) for n in range(3)]
        return [self.send(*orders), self.cancel_one, *notes, *counts, *[self.pass_time] * 4]

    def order(self, ctx: Any) -> int:
        ctx.step.run("pack", self.note, f"pack {ctx.event.data['n']}")
        if ctx.event.data["n"] == 5:
            self.sleeper = ctx.run_id
        ctx.step.sleep("rest", "1s")
        ctx.step.run("ship", self.note, f"ship {ctx.event.data['n']}")
        return int(ctx.event.data["n"])

    def note(self, what: object) -> None:
        self.count(f"{what}")

    def cancel_one(self) -> None:
        """The last, which sleeps."""
        cancel(self.runtime, self.sleeper, "enough")

    def pass_time(self) -> None:
        super().pass_time()
        self._tick(close_due)

    def _recover(self) -> bool:
        at_door = self._tick(let_in) + self._tick(audit)
        return super()._recover() or bool(at_door)
