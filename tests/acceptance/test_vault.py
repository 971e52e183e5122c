"""With real workers: no secret stands in the store's file, keys are asked for, and old runs go by themselves."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from celery import Celery

from celeryflows.store.keyring import Keyring
from tests.acceptance.crew import Crew
from tests.acceptance.terminal import Terminal
from tests.celery.apps import vault
from tests.waiting import eventually
from tests.workers import WorkerDied
from tests.worlds import World

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
ANOTHER = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
SECRET = "4111-1111-1111-1111"
MINUTES = 60_000_000


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world("sqlite", flows_encryption_keys=[KEY], flows_retention="1m")


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(vault.sheet)


@pytest.fixture(scope="module")
def crew(world: World) -> Iterator[Crew]:
    with ExitStack() as stack:
        crew = Crew(world, stack, "tests.celery.apps.vault")
        crew.hire("-c", "1")
        yield crew


def store_files(world: World) -> bytes:
    """The database, and what is not merged into it yet."""
    file = Path(str(world.store.url.database))
    return b"".join(one.read_bytes() for one in file.parent.glob(f"{file.name}*"))


def the_run(world: World, flow: str) -> str:
    (found,) = eventually(lambda: world.rows("SELECT id FROM flows_runs WHERE flow = :flow", flow=flow))
    return str(found[0])


def test_a_secret_goes_through_every_tool_and_stands_nowhere_in_the_stores_file(
    app: Celery, world: World, crew: Crew
) -> None:
    app.flows.send("order/placed", {"card": SECRET})
    run = app.flows.run(the_run(world, "vault.pay"))

    assert run.get(timeout=30) == {"card": SECRET}
    assert f"{run.id} refused True" in world.lines()
    assert b"bank/answered" in store_files(world), "this is where its rows are"
    assert SECRET.encode() not in store_files(world)


@pytest.mark.parametrize("keys", [None, [ANOTHER]])
def test_a_worker_without_the_key_refuses_to_start_and_says_what_to_do(world: World, crew: Crew, keys) -> None:
    with pytest.raises(WorkerDied) as died, world.worker("tests.celery.apps.vault", flows_encryption_keys=keys):
        pass

    assert "flows_encryption_keys" in str(died.value)


def test_the_leader_forgets_what_is_older_than_the_setting_and_leaves_what_is_under_way(
    app: Celery, world: World, crew: Crew
) -> None:
    pay = app.tasks["vault.pay"]
    ids = [pay.apply_async(kwargs={"card": SECRET}, task_id=f"order-{n}").id for n in range(3)]
    app.flows.send("order/kept")
    kept = the_run(world, "vault.keep")
    for run_id in ids:
        world.ends(run_id)
    eventually(lambda: world.status(kept) == "suspended")

    world.rows("UPDATE flows_events SET stored_at = stored_at - :ago, arrived_at = arrived_at - :ago", ago=2 * MINUTES)
    world.rows("UPDATE flows_runs SET ended_at = ended_at - :ago WHERE ended_at IS NOT NULL", ago=2 * MINUTES)

    eventually(lambda: [world.status(run_id) for run_id in ids] == [None] * 3, within=30)
    assert world.status(kept) == "suspended"
    assert world.rows("SELECT key FROM flows_steps WHERE run_id LIKE 'order-%'") == []


def test_the_commands_rotate_keys_and_prune(app: Celery, world: World, crew: Crew) -> None:
    newer = world.app(vault.sheet, flows_encryption_keys=[ANOTHER, KEY])
    terminal = Terminal(newer)

    assert terminal("rotate-keys").exit_code == 0
    old = Keyring([KEY]).writes_under
    assert world.rows("SELECT id FROM flows_events WHERE data LIKE :mark", mark=f"sealed:{old}%") == []
    dry = terminal("prune", "--older-than", "1s", "--flow", "vault.keep", "--dry-run")
    assert (dry.exit_code, dry.stdout) == (0, "would prune 0 runs\n")
    assert "not both" in terminal.refused("prune", "--older-than", "1s", "--before", "2020-01-01T00:00:00Z", code=2)
    assert "is to come" in terminal.refused("prune", "--before", "2999-01-01T00:00:00Z", code=2)
    assert terminal("prune", "--older-than", "1s").stdout.startswith("pruned ")
