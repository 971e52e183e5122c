"""Every two limits of one flow: refused where they are declared, with the reason, or both hold and nothing is stuck."""

from itertools import combinations
from typing import Any

import pytest

from celeryflows import (
    Batch,
    Concurrency,
    Debounce,
    DeclarationError,
    Event,
    Priority,
    RateLimit,
    Singleton,
    Status,
    Throttle,
)
from tests.engine.world import World, statuses

EVENT, USER = "job/asked", "event.data.user"
OPTIONS: dict[str, dict[str, Any]] = {
    "one concurrency": {"concurrency": Concurrency(1, key=USER)},
    "two concurrencies": {"concurrency": [Concurrency(1, key=USER), Concurrency(2)]},
    "shared concurrency": {"concurrency": Concurrency(1, key="'till'", scope="app")},
    "throttle": {"throttle": Throttle(1, "1s", key=USER, burst=2)},
    "rate_limit": {"rate_limit": RateLimit(2, "1m", key=USER)},
    "debounce": {"debounce": Debounce("5s", key=USER, timeout="1m")},
    "batch": {"batch": Batch(2, "5s", key=USER, if_exp="event.data.n != 3")},
    "priority": {"priority": Priority("event.data.n")},
    "singleton that skips": {"singleton": Singleton("skip", key=USER)},
    "singleton that cancels": {"singleton": Singleton("cancel", key=USER)},
    "idempotency": {"idempotency": "event.data.n"},
}
REFUSED = {
    ("debounce", "batch"): "until it is quiet",
    ("batch", "singleton that skips"): "would take all its events with it",
    ("batch", "singleton that cancels"): "would take all its events with it",
}
PAIRS = [pair for pair in combinations(OPTIONS, 2) if OPTIONS[pair[0]].keys() != OPTIONS[pair[1]].keys()]
ENDED = {Status.COMPLETED, Status.SKIPPED, Status.CANCELLED}


def declare(world: World, pair: tuple[str, str]) -> None:
    @world.flow(name="shop.job", trigger=EVENT, **OPTIONS[pair[0]], **OPTIONS[pair[1]])
    def job(ctx: Any) -> list[int]:
        ctx.step.sleep("nap", "2s")
        return [event.data["n"] for event in ctx.events]

    world.start_worker()


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_two_limits_are_refused_with_the_reason_or_hold_together(world: World, pair: tuple[str, str]) -> None:
    if pair in REFUSED:
        with pytest.raises(DeclarationError, match=f"flow 'shop.job': .* do not go together: .*{REFUSED[pair]}"):
            declare(world, pair)
        return
    declare(world, pair)
    for start in (0, 4):
        world.send([Event(EVENT, {"n": n, "user": "ab"[n % 2]}) for n in (start, start + 1, start + 2, start)])
        world.advance("3s")
    world.advance("5m")

    assert set(statuses(world.runs())) <= ENDED
    done = [n for run in world.runs(status="completed") for n in run.output]
    # The last ones of both users are done whatever limits them, but for what came too fast.
    assert done
    if "rate_limit" not in pair and "singleton that skips" not in pair:
        assert {4, 5} <= set(done) or {6, 5} <= set(done)
    if "idempotency" in pair:
        assert len(done) == len(set(done))
    for table in ("queue", "debounces", "batches"):
        assert world.store_rows(f"SELECT 1 FROM flows_{table}") == []
    assert world.store_rows("SELECT 1 FROM flows_slots WHERE run_id IS NOT NULL") == []


def test_the_table_names_each_pair_of_options_once() -> None:
    names = {name for option in OPTIONS.values() for name in option}
    met = {frozenset(OPTIONS[a].keys() | OPTIONS[b].keys()) for a, b in PAIRS}
    assert met == {frozenset(pair) for pair in combinations(sorted(names), 2)}
