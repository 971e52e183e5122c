"""A worker that cannot do its work says why in one line and ends; without a broker it waits for it, as Celery does."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.celery.apps import works
from tests.servers import Postgres, running_redis
from tests.waiting import eventually
from tests.workers import starting_worker
from tests.worlds import World

APP = "tests.celery.apps.works"


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world("sqlite")


def refusal(world: World, **settings: str) -> str:
    """The line with which a worker of these settings ends."""
    env = {**world.env, "APP_SETTINGS": json.dumps({**world.settings, **settings})}
    with starting_worker(APP, "-P", "solo", env=env) as worker:
        assert worker.wait_end() == 1
        assert "Traceback" not in worker.log
        [line] = [line for line in worker.log.splitlines() if line.startswith("celeryflows: ")]
        return line


def test_a_worker_with_another_store_on_the_same_broker_is_refused(world: World, tmp_path: Path) -> None:
    with world.worker(APP, "-P", "solo"):
        pass
    other = f"sqlite:///{tmp_path / 'other.db'}"
    line = refusal(world, flows_store_url=other)
    for told in (world.settings["flows_store_url"], other, "set the same flows_store_url everywhere"):
        assert told in line
    assert "celeryflows:store:works" in line


def test_a_worker_whose_database_does_not_answer_says_which(world: World) -> None:
    line = refusal(world, flows_store_url="postgresql://flows:secret@127.0.0.1:1/flows")
    assert "postgresql+psycopg://flows:***@127.0.0.1:1/flows does not answer" in line
    assert "flows_store_url" in line
    assert "secret" not in line


def test_a_worker_on_an_empty_database_says_how_to_make_the_tables(world: World, postgres_server: Postgres) -> None:
    name = postgres_server.create_database()
    try:
        assert "flows db upgrade" in refusal(world, flows_store_url=postgres_server.url(name))
    finally:
        postgres_server.drop_database(name)


def test_a_worker_with_a_misspelt_setting_says_which(world: World) -> None:
    assert "Did you mean flows_dead_after?" in refusal(world, flows_dead_afer="20s")


def test_a_worker_waits_for_its_broker_as_celery_does(make_world: Callable[..., World]) -> None:
    with running_redis() as redis:
        world = make_world("sqlite", redis)
        redis.server.kill()
        with starting_worker(APP, "-P", "solo", env=world.env) as worker:
            eventually(lambda: "Trying again in" in worker.log, within=30)
            called = world.app(works.sheet).tasks["works.quick"].delay()
            redis.start()
            worker.wait_ready()
            assert called.get(timeout=30) == 1
