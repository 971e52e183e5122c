"""Promises of declared flows: services route without flow code, senders fill gaps, of several releases one counts."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from celeryflows import OnCron
from celeryflows.engine.registrar import register_worker
from tests.engine.releases import declare, triggers, worker
from tests.engine.world import Process, World, us


def beats(process: Process) -> None:
    with process.runtime.store.connection() as connection:
        assert connection.workers.beat(process.runtime.worker)


# --- who routes


def test_a_service_without_flow_code_starts_runs(world: World) -> None:
    there = worker(world, "ship")
    there.start_worker()

    world.process("web").flows.send("order/paid")
    there.drain()

    assert world.only_run("ship").output == "order/paid"


def test_a_sender_declares_what_the_store_lacks(world: World) -> None:
    sender = worker(world, "ship")

    sender.flows.send("order/paid")

    assert triggers(world) == {"ship": ["order/paid"]}
    assert world.only_run("ship").status == "queued"


def test_a_sender_declares_a_flow_that_it_learns_later(world: World) -> None:
    sender = worker(world, "ship")
    sender.flows.send("order/paid")

    declare(sender, "mail")
    sender.flows.send("order/paid")

    assert len(world.runs("mail")) == 1


def test_a_sender_with_older_code_changes_nothing(world: World) -> None:
    worker(world, "ship", "order/paid").start_worker()

    worker(world, "ship", "order/old").flows.send("order/old")

    assert triggers(world) == {"ship": ["order/paid"]}
    assert world.runs() == []


def test_a_sender_does_not_bring_a_removed_flow_back(world: World) -> None:
    worker(world, "ship").start_worker()
    worker(world, "mail").start_worker()

    worker(world, "ship").flows.send("order/paid")

    assert triggers(world) == {"mail": ["order/paid"]}


def test_every_process_hears_of_a_change_at_its_next_send(world: World) -> None:
    service = world.process("web")
    worker(world, "ship").start_worker()
    service.flows.send("order/paid")

    worker(world, "ship", "order/sent").start_worker()
    service.flows.send("order/paid")
    service.flows.send("order/sent")

    assert [run.events[0].name for run in world.runs("ship")] == ["order/paid", "order/sent"]


# --- which release counts


def test_the_newest_release_counts(world: World) -> None:
    assert worker(world, "ship", "v1/event").start_worker() is True
    assert worker(world, "ship", "v2/event").start_worker() is True

    assert triggers(world) == {"ship": ["v2/event"]}


def test_an_old_worker_that_restarts_during_a_deploy_does_not_win(world: World) -> None:
    worker(world, "ship", "v1/event").start_worker()
    worker(world, "ship", "v2/event").start_worker()

    assert worker(world, "ship", "v1/event").start_worker() is False

    assert triggers(world) == {"ship": ["v2/event"]}


def test_an_old_worker_that_looks_again_while_the_newest_lives_does_not_win(world: World) -> None:
    old = worker(world, "ship", "v1/event")
    old.start_worker()
    newest = worker(world, "ship", "v2/event")
    newest.start_worker()

    for _ in range(6):
        world.clock.turn(us("10s"))
        beats(newest)
        beats(old)
        assert register_worker(old.runtime) is False

    assert triggers(world) == {"ship": ["v2/event"]}


def test_an_old_worker_declares_what_the_store_lacks_and_no_more(world: World) -> None:
    worker(world, "ship", "v1/event").start_worker()
    declare(worker(world, "ship", "v2/event"), "mail").start_worker()
    old = declare(worker(world, "ship", "v1/event"), "never seen")

    with world.store.connection() as connection:
        connection.flows.add_release("shop", old.release())
        connection.execute("UPDATE flows_releases SET first_seen = 1 WHERE hash = :hash", hash=old.release())
    assert old.start_worker() is False

    assert triggers(world) == {"ship": ["v2/event"], "mail": ["order/paid"], "never seen": ["order/paid"]}


@pytest.mark.parametrize("end", ["silent", "stopped"])
def test_the_old_release_counts_again_once_the_newest_is_gone(world: World, end: str) -> None:
    old = worker(world, "ship", "v1/event")
    old.start_worker()
    newest = declare(worker(world, "ship", "v2/event"), "mail")
    newest.start_worker()

    if end == "stopped":
        newest.stop_worker()
    else:
        world.clock.turn(us("20s") - 1)
        assert register_worker(old.runtime) is False
        world.tick()
    assert register_worker(old.runtime) is True

    assert triggers(world) == {"ship": ["v1/event"]}


def test_after_a_roll_back_the_release_that_came_back_is_the_newest(world: World) -> None:
    first = worker(world, "ship", "v1/event")
    first.start_worker()
    second = worker(world, "ship", "v2/event")
    second.start_worker()
    second.stop_worker()
    world.tick()
    register_worker(first.runtime)

    assert worker(world, "ship", "v2/event").start_worker() is False

    assert triggers(world) == {"ship": ["v1/event"]}


def test_the_same_release_on_many_workers_is_declared_once(world: World) -> None:
    worker(world, "ship").start_worker()
    with world.store.connection() as connection:
        version = connection.flows.version()

    for _ in range(5):
        assert worker(world, "ship").start_worker() is True

    with world.store.connection() as connection:
        assert connection.flows.version() == version


# --- at once


def test_workers_that_start_at_once_declare_one_whole_release(shared: World) -> None:
    workers = []
    for n in range(8):
        process = shared.process()
        for name in ("a", "b", "c"):
            process.flow(name=name, trigger=[f"v{n % 2}/{name}", OnCron(f"{n % 2} * * * *")])(lambda ctx: None)
        workers.append(process)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(Process.start_worker, workers))

    declared = triggers(shared)
    assert True in results
    assert declared in [{name: [f"v{n}/{name}"] for name in ("a", "b", "c")} for n in (0, 1)]
    with shared.store.connection() as connection:
        assert len(connection.crons.all()) == 3


def test_senders_that_start_at_once_declare_each_flow_once(shared: World) -> None:
    senders = [worker(shared, "ship") for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda sender: sender.flows.send("order/paid"), senders))

    assert triggers(shared) == {"ship": ["order/paid"]}
    assert len(shared.runs("ship")) == 8
