"""A world in which turns overlap: messages are taken one by one, and a step may hold on while others start."""

from collections.abc import Callable
from typing import Any

from celeryflows.engine.turn import TurnEnd, take_turn
from tests.engine.world import World

AT_WORK = "(status = 'running' OR (status = 'queued' AND held_at IS NULL))"


class Crowd(World):
    """Messages under way, slots and lines, as a test asks for them."""

    def started(self) -> int:
        """Messages under way."""
        return len(self.broker.waiting)

    def take(self) -> TurnEnd:
        """Take the next message's turn."""
        one = self.broker.waiting.popleft()
        return take_turn(self.runtime, one.run_id, branch=one.branch)

    def count(self, sql: str) -> int:
        """The number that a statement gives."""
        return int(self.store_rows(sql)[0][0])

    def held(self) -> int:
        """How many units wait in lines."""
        return self.count("SELECT count(*) FROM flows_queue")

    def in_slots(self) -> int:
        """How many slots are taken."""
        return self.count("SELECT count(*) FROM flows_slots WHERE run_id IS NOT NULL")

    def check(self) -> None:
        """Each slot belongs to a unit that may be at work, each who waits stands in one line."""
        held = sum(
            self.count(f"SELECT count(*) FROM flows_{of} WHERE {which} IS NOT NULL AND {AT_WORK}")
            for of in ("runs", "branches")
            for which in ("n1", "n2")
        )
        held += sum(
            self.count(f"SELECT count(*) FROM flows_{of} WHERE n1 IS NOT NULL AND status = 'queued' AND held_at = g2")
            for of in ("runs", "branches")
        )
        assert self.in_slots() == held
        waiting = sum(
            self.count(f"SELECT count(*) FROM flows_{of} WHERE held_at > '0' AND status = 'queued'")
            for of in ("runs", "branches")
        )
        assert self.held() == waiting
        assert self.count("SELECT count(*) FROM flows_runs WHERE held_at = '0' AND status = 'queued'") == 0

    def meanwhile(self, seen: list[int]) -> Callable[[], None]:
        """A step's body that lets all others start, and notes how many are inside at once."""
        inside = 0

        def body() -> None:
            nonlocal inside
            inside += 1
            seen.append(inside)
            while self.started():
                self.take()
            inside -= 1

        return body


def most_inside(crowd: Crowd, **options: Any) -> Callable[..., list[int]]:
    """Declare a flow whose step lets others in; how many were inside at each entry."""
    seen: list[int] = []
    body = crowd.meanwhile(seen)

    @crowd.flow(trigger="shop/ordered", name="ship", **options)
    def ship(ctx: Any) -> Any:
        ctx.step.run("pack", body)
        return ctx.event.data

    crowd.start_worker()
    return lambda: seen
