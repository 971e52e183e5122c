"""Promises of flows that are no more: nothing starts them, what runs goes on, and no other app is touched."""

from celeryflows.engine.registrar import register_worker
from tests.engine.releases import declare, triggers, worker
from tests.engine.world import World, us


def test_a_flow_that_the_newest_release_lacks_is_started_no_more(world: World) -> None:
    declare(worker(world, "ship"), "mail").start_worker()
    worker(world, "ship").start_worker()

    world.flows.send("order/paid")

    assert [run.flow for run in world.runs()] == ["ship"]


def test_a_run_of_a_removed_flow_goes_on_where_its_code_still_is(world: World) -> None:
    old = world.process()
    old.flow(name="mail", trigger="order/paid")(lambda ctx: ctx.step.sleep("settle", "1h"))
    old.start_worker()
    old.send("order/paid")
    worker(world, "ship").start_worker()

    old.turn_to(world.clock.now() + us("2h"))

    assert world.only_run("mail").status == "completed"


def test_a_removed_flow_that_comes_back_is_started_again(world: World) -> None:
    worker(world, "ship").start_worker()
    worker(world, "mail").start_worker()
    declare(worker(world, "mail"), "ship").start_worker()

    world.flows.send("order/paid")

    assert sorted(run.flow for run in world.runs()) == ["mail", "ship"]


def test_an_app_removes_its_own_flows_only(world: World) -> None:
    worker(world, "ship", app="shop").start_worker()
    worker(world, "bill", app="billing").start_worker()
    worker(world, "bill", "invoice/paid", app="billing").start_worker()

    assert triggers(world) == {"ship": ["order/paid"], "bill": ["invoice/paid"]}


def test_a_flow_may_move_to_another_app(world: World) -> None:
    worker(world, "ship", app="shop").start_worker()
    worker(world, "ship", app="logistics").start_worker()
    worker(world, "mail", app="shop").start_worker()

    assert triggers(world) == {"ship": ["order/paid"], "mail": ["order/paid"]}


def test_a_flow_of_a_newer_sender_outlives_the_old_workers_looks(world: World) -> None:
    old = worker(world, "ship")
    old.start_worker()
    web = declare(worker(world, "ship"), "mail")
    web.flows.send("order/paid")

    assert register_worker(old.runtime) is True
    web.flows.send("order/paid")

    assert len(world.runs("mail")) == 2
