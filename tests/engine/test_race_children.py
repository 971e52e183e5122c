"""A branch that loses a race takes the run with it that it invoked and waits for, when that one is bound to it."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from celeryflows import InvokeTimeout, Status
from celeryflows.clock import TurnedClock
from tests.engine.world import NEW_YEAR, World, statuses, store_at


@pytest.fixture
def turned(store_url: str) -> Iterator[World]:
    """A world with a turned clock on a store of each kind, and a flow `child` that sleeps for an hour."""
    world = World(store_at(store_url, TurnedClock(NEW_YEAR)))
    world.flow(name="child")(lambda ctx: ctx.step.sleep("long", "1h"))
    yield world
    world.close()


def start(world: World, handler: Any) -> None:
    world.flow(name="parent", trigger="go")(handler)
    world.send("go")


def invokes(ctx: Any, id: str = "call", *, bound: bool = True) -> Any:
    return ctx.step.using(cancel_with_parent=bound).invoke(id, "child")


def soon(ctx: Any) -> str:
    ctx.step.sleep("soon", "1s")
    return "soon"


def after(ctx: Any) -> None:
    ctx.step.sleep("after", "2h")


def test_the_losers_child_is_cancelled_and_the_run_goes_on(turned: World) -> None:
    def flow(ctx: Any) -> Any:
        found = ctx.group.race(partial(soon, ctx), partial(invokes, ctx))
        after(ctx)
        return found

    start(turned, flow)
    turned.advance("2s")

    (child,) = turned.runs("child")
    assert (child.status, turned.only_run("parent").status) == (Status.CANCELLED, Status.SUSPENDED)
    assert "lost a race" in str(child.reason)
    turned.advance("3h")
    assert turned.only_run("parent").output == [0, "soon"]


@pytest.mark.parametrize("goes_on", [False, True])
def test_the_losers_child_is_cancelled_though_its_time_was_out(turned: World, goes_on: bool) -> None:
    """At the very moment at which the race is won, or long before, when the loser did something else since."""

    def waits(ctx: Any) -> None:
        try:
            ctx.step.using(cancel_with_parent=True).invoke("call", "child", timeout="1s")
        except InvokeTimeout:
            after(ctx)

    def wins(ctx: Any) -> str:
        ctx.step.sleep("soon", "5s" if goes_on else "1s")
        return "soon"

    start(turned, lambda ctx: ctx.group.race(partial(wins, ctx), partial(waits, ctx)))
    turned.advance("10s")
    (child,) = turned.runs("child")
    assert (child.status, turned.only_run("parent").output) == (Status.CANCELLED, [0, "soon"])
    assert turned.store_rows("SELECT 1 FROM flows_runs WHERE owes IS NOT NULL") == []


def test_a_child_that_is_not_bound_goes_on_and_so_does_one_outside_the_race(turned: World) -> None:
    def beside(ctx: Any) -> Any:
        ctx.group.race(partial(soon, ctx), partial(invokes, ctx, "free", bound=False))
        return "raced"

    start(turned, lambda ctx: ctx.group.parallel(partial(beside, ctx), partial(invokes, ctx)))
    turned.advance("2s")
    assert statuses(turned.runs("child")) == [Status.SUSPENDED] * 2

    turned.advance("2h")
    assert statuses(turned.runs("child")) == [Status.COMPLETED] * 2
    assert turned.only_run("parent").output == ["raced", None]


def test_the_children_of_races_in_branches_go_with_them(turned: World) -> None:
    def inner(ctx: Any) -> Any:
        return ctx.group.race(partial(invokes, ctx), partial(invokes, ctx))

    def branch(ctx: Any) -> Any:
        return ctx.group.race(partial(inner, ctx), partial(soon, ctx))

    start(turned, lambda ctx: ctx.group.parallel(partial(branch, ctx), partial(after, ctx)))
    turned.advance("2s")

    assert statuses(turned.runs("child")) == [Status.CANCELLED] * 2
    assert turned.only_run("parent").status == Status.SUSPENDED


def test_the_child_is_cancelled_though_its_parent_has_ended_or_died_right_after(turned: World) -> None:
    start(turned, lambda ctx: ctx.group.race(partial(soon, ctx), partial(invokes, ctx)))
    # Whatever is owed stands in the store with the end of the race.
    turned.advance("1s")

    assert turned.only_run("parent").output == [0, "soon"]
    assert statuses(turned.runs("child")) == [Status.CANCELLED]
    assert turned.store_rows("SELECT id FROM flows_runs WHERE owes IS NOT NULL") == []


def test_a_race_that_is_lost_while_the_first_ones_debt_is_paid_is_not_forgotten(turned: World) -> None:
    def flow(ctx: Any) -> None:
        for _ in range(3):
            ctx.group.race(partial(soon, ctx), partial(invokes, ctx))
        after(ctx)

    start(turned, flow)
    turned.advance("4s")

    assert statuses(turned.runs("child")) == [Status.CANCELLED] * 3


def test_an_invoked_run_whose_race_was_lost_still_answers_who_invoked_it(turned: World) -> None:
    @turned.flow(name="middle")
    def middle(ctx: Any) -> Any:
        return ctx.group.race(partial(soon, ctx), partial(invokes, ctx))

    start(turned, lambda ctx: ctx.step.invoke("middle", "middle"))
    turned.advance("2s")

    assert turned.only_run("parent").output == [0, "soon"]
    assert statuses(turned.runs("child")) == [Status.CANCELLED]
