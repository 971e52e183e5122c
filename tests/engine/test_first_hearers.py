"""The first wait ever for the end of a run: no end is missed, whatever was under way when somebody began to listen."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event as Flag
from typing import Any

import pytest

from celeryflows import Event, Status
from celeryflows.engine import conclusion, hearing
from celeryflows.engine.endings import cancel_within
from celeryflows.engine.resume import requeue
from celeryflows.engine.turn import take_turn
from tests.engine.world import World, store_at
from tests.store.making import until_somebody_waits


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.fixture
def postgres(migrated_postgres: str) -> Iterator[World]:
    """A world at the machine's own time, whose transactions may overlap."""
    world = World(store_at(migrated_postgres))
    yield world
    world.close()


def declared(world: World, body: Callable[[Any], Any] = lambda ctx: None, **wait: Any) -> None:
    """`f` ends in one turn, `hear` waits for the end of any `f`."""
    world.flow(name="f", trigger="f/go", retries=0)(body)

    @world.flow(name="hear", trigger="hear/go")
    def hear(ctx: Any) -> Any:
        if "prepare" in wait:
            ctx.step.run("before", wait["prepare"])
        how = {"lookback": wait["lookback"]} if "lookback" in wait else {}
        name = wait.get("name", "flows/run.completed")
        found = ctx.step.wait_for_event("end", event=name, if_exp="async.data.flow == 'f'", timeout="1h", **how)
        return found.data["flow"]

    world.start_worker()


def turn(world: World) -> None:
    """Take the turn of the message that was sent last."""
    take_turn(world.runtime, world.broker.waiting.pop().run_id)


def begin_to_hear(world: World) -> None:
    world.flows.send("hear/go")
    turn(world)


def heard(world: World) -> bool:
    """What is left is told, once."""
    hearing.tell_missed(world.runtime)
    world.drain()
    told = [
        event for event in world.events(own=True) if event.name.startswith("flows/run.") and '"flow":"f"' in event.data
    ]
    left = world.store_rows("SELECT key FROM flows_meta WHERE key LIKE 'heard%' OR key LIKE 'untold%'")
    return (world.only_run("hear").status, len(told), left) == (Status.COMPLETED, 1, [])


def test_an_end_whose_commit_is_under_way_is_told(postgres: World) -> None:
    at_work, go = Flag(), Flag()

    def body(ctx: Any) -> None:
        at_work.set()
        assert go.wait(20)

    declared(postgres, body, lookback="wait")
    postgres.flows.send("f/go")
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(turn, postgres)
        assert at_work.wait(20)
        with postgres.store.begin() as tx:
            # The statement that ends it has looked whether anybody listens, and waits for the row.
            tx.runs.lock([postgres.only_run("f").id])
            go.set()
            until_somebody_waits(postgres.store)
            begin_to_hear(postgres)
        ending.result(20)
    assert [postgres.only_run(flow).status for flow in ("f", "hear")] == [Status.COMPLETED, Status.SUSPENDED]
    assert heard(postgres)


def test_an_end_that_has_looked_and_not_begun_to_commit_is_told(turned: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def body(ctx: Any) -> None:
        raise ValueError("no")

    declared(turned, body, name="flows/run.failed", lookback="wait")
    go_out = conclusion.go_out

    def after_another(*args: Any) -> Any:
        # It has looked whether anybody listens, and writes then.
        if not turned.runs("hear"):
            begin_to_hear(turned)
        return go_out(*args)

    monkeypatch.setattr(conclusion, "go_out", after_another)
    turned.send("f/go")
    assert turned.only_run("f").status == Status.FAILED
    assert heard(turned)


def test_who_begins_to_listen_waits_for_a_cancel_that_found_nobody(postgres: World) -> None:
    declared(postgres, name="flows/run.cancelled", lookback="1h")
    postgres.flows.send("f/go")
    run = postgres.only_run("f").id
    postgres.broker.waiting.clear()
    postgres.flows.send("hear/go")
    with ThreadPoolExecutor(1) as pool:
        with postgres.store.begin() as tx:
            tx.runs.lock([run])
            assert cancel_within(postgres.runtime, tx, {run: "for a test"})[0].event is None
            hearing_it = pool.submit(turn, postgres)
            until_somebody_waits(postgres.store)
        hearing_it.result(20)
    assert heard(postgres)


@pytest.mark.parametrize("ends", ["completed", "failed", "cancelled"])
def test_what_ended_since_the_step_before_the_wait_is_told(turned: World, ends: str) -> None:
    def body(ctx: Any) -> Any:
        if ends == "failed":
            raise ValueError("no")

    def end_it() -> None:
        turned.clock.turn(1)
        turned.flows.send(Event("f/go"))
        if ends == "cancelled":
            turned.only_run("f").cancel()
        turn(turned)

    declared(turned, body, prepare=end_it, name=f"flows/run.{ends}")
    begin_to_hear(turned)
    assert heard(turned)


def test_who_began_to_listen_may_be_killed_before_it_notes_who_was_at_work(
    turned: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise Killed

    declared(turned, lookback="run")
    turned.flows.send("hear/go")
    with monkeypatch.context() as patch:
        patch.setattr(hearing, "_note", die)
        with pytest.raises(Killed):
            turn(turned)
    turned.clock.turn(1)
    turned.flows.send("f/go")
    turn(turned)
    turned.clock.turn(1)
    with turned.store.connection() as connection:
        [held] = connection.runs.of_worker(turned.runtime.worker)
    requeue(turned.runtime, held)
    turned.drain()
    assert heard(turned)
