"""Bounds of a run hold over all its branches: each turn knows what stood there when it began, the group all of it."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from celeryflows import BoundExceeded, StepError
from celeryflows.engine.turn import take_turn
from tests.engine.world import World, error_of, store_at

SETTINGS = {"max_steps": 10, "max_run_bytes": 1_000, "max_value_bytes": 900}


@pytest.fixture
def small(store_url: str) -> Iterator[World]:
    """A world of ten steps and 1,000 bytes, on a store of each kind."""
    world = World(store_at(store_url), **SETTINGS)
    yield world
    world.close()


@pytest.fixture
def turned() -> Iterator[World]:
    """The same in memory, its clock turned by hand."""
    world = World(**SETTINGS)
    yield world
    world.close()


class Work:
    """Bodies that count."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()

    def steps(self, ctx: Any, count: int, value: Any = None) -> None:
        for _ in range(count):
            ctx.step.run("work", self.one, "work", value)

    def one(self, what: str, value: Any = None) -> Any:
        self.done[what] += 1
        return value


@pytest.fixture
def work() -> Work:
    return Work()


def at_once(world: World, count: int, branch: Any) -> list[Any]:
    """Branches whose turns have all begun before any of them has recorded a step."""

    def take_next() -> None:
        if world.broker.waiting:
            delivery = world.broker.waiting.popleft()
            take_turn(world.runtime, delivery.run_id, branch=delivery.branch)

    return [partial(branch, take_next)] * count


def start(world: World, handler: Any) -> None:
    world.flow(name="f", trigger="go")(handler)
    world.send("go")


@pytest.mark.parametrize("after", [0, 1])
def test_the_steps_of_all_branches_count(small: World, work: Work, after: int) -> None:
    def flow(ctx: Any) -> str:
        # The group itself is the tenth.
        ctx.group.parallel([partial(work.steps, ctx, 3)] * 3)
        for _ in range(after):
            ctx.step.run("after", work.one, "after")
        return "through"

    start(small, flow)

    run = small.only_run()
    assert (work.done["work"], work.done["after"]) == (9, 0)
    if not after:
        assert run.output == "through"
        return
    failure = error_of(run)
    assert (failure.name, "steps in a run: at most 10, got 11." in failure.message) == ("BoundExceeded", True)


def test_steps_past_the_bound_in_branches_at_once_end_the_run_behind_the_group(small: World, work: Work) -> None:
    def flow(ctx: Any) -> str:
        def branch(first: Any) -> None:
            ctx.step.run("first", lambda: first() and None)
            work.steps(ctx, 3)

        try:
            ctx.group.parallel(at_once(small, 3, branch))
        except StepError:
            return "caught"
        return "through"

    start(small, flow)

    failure = error_of(small.only_run())
    assert (failure.name, failure.step_id) == ("BoundExceeded", None)
    assert "steps in a run: at most 10, got 13." in failure.message


def test_a_branch_that_goes_on_knows_what_the_others_did(turned: World, work: Work) -> None:
    def late(ctx: Any) -> None:
        ctx.step.sleep("nap", "1h")
        work.steps(ctx, 3)

    def flow(ctx: Any) -> None:
        ctx.step.run("before", work.one, "before")
        ctx.group.parallel(partial(work.steps, ctx, 6), partial(late, ctx))

    start(turned, flow)
    turned.advance("2h")

    failure = error_of(turned.only_run())
    assert "steps in a run: at most 10, got 11." in failure.message
    assert work.done["work"] == 7


def test_groups_in_groups_count_once(small: World, work: Work) -> None:
    def inner(ctx: Any) -> None:
        ctx.group.parallel([partial(work.steps, ctx, 2)] * 2)
        ctx.step.run("inner", work.one, "inner")

    def flow(ctx: Any) -> str:
        # 1 + 1 + 4 + 1 + 2 + 1
        ctx.group.parallel(partial(inner, ctx), partial(work.steps, ctx, 2))
        ctx.step.run("after", work.one, "after")
        return "through"

    start(small, flow)

    assert small.only_run().output == "through"
    assert len(small.only_run().steps) == 10


def test_a_race_counts_what_its_losers_did(turned: World, work: Work) -> None:
    def loser(ctx: Any) -> None:
        work.steps(ctx, 6)
        ctx.step.sleep("nap", "1h")

    def flow(ctx: Any) -> None:
        ctx.group.race(partial(loser, ctx), partial(ctx.step.sleep, "nap", "1s"))
        work.steps(ctx, 2)

    start(turned, flow)
    turned.advance("1s")

    assert "steps in a run: at most 10, got 11." in error_of(turned.only_run()).message
    assert work.done["work"] == 7


@pytest.mark.parametrize(("size", "fits"), [(140, True), (150, False)])
def test_the_values_of_all_branches_count_in_bytes(small: World, work: Work, size: int, fits: bool) -> None:
    def flow(ctx: Any) -> str:
        ctx.group.parallel([partial(work.steps, ctx, 1, "ä" * (size // 2))] * 6)
        ctx.step.run("after", work.one, "after", "x" * 100)
        return "through"

    start(small, flow)

    run = small.only_run()
    assert work.done["work"] == 6
    if fits:
        assert run.output == "through"
    else:
        failure = error_of(run)
        assert (failure.name, failure.step_id) == ("BoundExceeded", "after")
        assert "a run's values in bytes: at most 1,000, got 1,014." in failure.message


def test_values_past_the_bound_in_branches_at_once_end_the_run_behind_the_group(small: World, work: Work) -> None:
    met: list[str] = []

    def flow(ctx: Any) -> str:
        def branch(first: Any) -> None:
            ctx.step.run("first", lambda: (first(), "x" * 400)[1])

        try:
            ctx.group.parallel(at_once(small, 3, branch))
        except BoundExceeded as error:
            met.append(str(error))
            ctx.step.run("after", work.one, "after", 1)
        return "through"

    start(small, flow)

    failure = error_of(small.only_run())
    assert (failure.name, failure.step_id) == ("BoundExceeded", "after")
    assert "a run's values in bytes: at most 1,000, got 1,206." in met[0]
    assert "a run's values in bytes: at most 1,000, got 1,207." in failure.message


def test_a_branch_that_goes_on_knows_how_much_the_others_stored(turned: World, work: Work) -> None:
    def late(ctx: Any) -> None:
        ctx.step.sleep("nap", "1h")
        work.steps(ctx, 1, "x" * 300)

    def flow(ctx: Any) -> None:
        ctx.group.parallel(partial(work.steps, ctx, 1, "x" * 798), partial(late, ctx))

    start(turned, flow)
    turned.advance("2h")

    failure = error_of(turned.only_run())
    assert (failure.name, failure.step_id) == ("BoundExceeded", "group[1]/work")
    assert "a run's values in bytes: at most 1,000, got 1,102." in failure.message


def test_a_value_that_a_step_recorded_and_its_branch_gives_back_counts_once(small: World, work: Work) -> None:
    def flow(ctx: Any) -> int:
        values = ctx.group.parallel([partial(ctx.step.run, "work", work.one, "work", "x" * 400)] * 2)
        return sum(len(value) for value in values)

    start(small, flow)

    assert small.only_run().output == 800
