"""Promises of signals under races, on both stores: of timeout and signal one wins, one run waits, one signal wakes."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from celeryflows import RunHandle, Status
from celeryflows.clock import TurnedClock
from celeryflows.engine import resume
from celeryflows.engine.resume import wake_due
from celeryflows.engine.turn import take_turn
from tests.engine.world import NEW_YEAR, World, store_at, us

MANY = 30


def waits(world: World, on_conflict: str = "fail") -> None:
    """A flow that waits for the signal that its event names."""

    @world.flow(name="waits", trigger="cart/opened")
    def handler(ctx: Any) -> Any:
        came = ctx.step.wait_for_signal("s", ctx.event.data["name"], timeout="1h", on_conflict=on_conflict)
        return came and came.data


def opened(world: World, names: list[str]) -> list[RunHandle]:
    """Runs in their first turn; the order of the names."""
    for name in names:
        world.flows.send("cart/opened", {"name": name})
    return world.runs("waits")


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(60) for future in [pool.submit(call) for call in calls]]


@pytest.fixture
def turned(store_url: str) -> Iterator[World]:
    world = World(store_at(store_url, TurnedClock(NEW_YEAR)))
    yield world
    world.close()


def test_of_timeout_and_signal_at_once_exactly_one_wins(turned: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "BATCH", 1)
    waits(turned)
    runs = opened(turned, [f"n{n}" for n in range(MANY)])
    turned.drain()
    turned.clock.set(NEW_YEAR + us("1h"))

    def time_out() -> None:
        while wake_due(turned.runtime):
            pass

    def signal_all() -> dict[str, str | None]:
        return {f"n{n}": turned.flows.signal(f"n{n}", n) for n in reversed(range(MANY))}

    _, woken = at_once(time_out, signal_all)

    assert Counter(message.run_id for message in turned.broker.waiting) == Counter(run.id for run in runs)
    turned.drain()
    for n, run in enumerate(runs):
        assert (run.status, run.output) == (Status.COMPLETED, n if woken[f"n{n}"] else None)
        assert woken[f"n{n}"] in (None, run.id)


def test_of_concurrent_signals_one_wakes_the_run(shared: World) -> None:
    waits(shared)
    runs = opened(shared, [f"n{n}" for n in range(MANY)])
    shared.drain()

    told = at_once(*(lambda i=i: [shared.flows.signal(f"n{n}", i) for n in range(MANY)] for i in range(3)))
    shared.drain()

    for n, run in enumerate(runs):
        winners = [i for i in range(3) if told[i][n] is not None]
        assert [told[i][n] for i in winners] == [run.id]
        assert winners == [run.output]


def test_a_signal_that_races_with_the_wait_is_refused_or_arrives(shared: World) -> None:
    waits(shared)
    runs = opened(shared, [f"n{n}" for n in range(MANY)])
    shared.broker.waiting.clear()

    def signal_all() -> list[str | None]:
        return [shared.flows.signal(f"n{n}", n) for n in range(MANY)]

    _, told = at_once(lambda: [take_turn(shared.runtime, run.id) for run in runs], signal_all)
    shared.drain()

    for n, run in enumerate(runs):
        assert (run.status, told[n]) in ((Status.COMPLETED, run.id), (Status.SUSPENDED, None))
        assert run.output == (n if told[n] else None)


@pytest.mark.parametrize("on_conflict", ["fail", "replace"])
def test_of_runs_that_begin_to_wait_at_once_one_waits(shared: World, on_conflict: str) -> None:
    waits(shared, on_conflict)
    runs = opened(shared, ["go"] * 12)
    shared.broker.waiting.clear()

    at_once(
        *(lambda part=part: [take_turn(shared.runtime, run.id) for run in part] for part in (runs[::2], runs[1::2]))
    )
    shared.drain()

    lost = Status.FAILED if on_conflict == "fail" else Status.COMPLETED
    assert Counter(run.status for run in runs) == {Status.SUSPENDED: 1, lost: 11}
    woken = shared.flows.signal("go", "yes")
    shared.drain()
    assert [run.id for run in runs if run.output == "yes"] == [woken]
