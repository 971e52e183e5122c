"""PostgreSQL dies under a real worker for longer than the store's patience: no run fails for it, none is done twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.celery.apps import works
from tests.conftest import without
from tests.servers import Postgres, Redis, ServerMissing, running_postgres
from tests.waiting import eventually
from tests.worlds import BRISK, World, made_world

LEFT = "a turn was left: The store"


@pytest.fixture(scope="module")
def mortal() -> Iterator[Postgres]:
    """A PostgreSQL that this test may crash."""
    try:
        with running_postgres() as server:
            yield server
    except ServerMissing as missing:
        without(missing)


@pytest.fixture
def world(mortal: Postgres, redis_server: Redis, broker_databases: Iterator[int], tmp_path: Path) -> Iterator[World]:
    with made_world(redis_server, next(broker_databases), mortal, tmp_path, **BRISK) as made:
        yield made


def test_a_run_whose_store_was_away_completes_when_it_is_back(world: World, mortal: Postgres) -> None:
    app = world.app(works.sheet)
    with world.worker("tests.celery.apps.works", "-c", "1") as worker:
        called = app.tasks["works.three"].delay(gate="away")
        world.told(f"{called.id} second")
        mortal.crash()
        world.open_gate("away")
        # It has done the step, and cannot record it for longer than it tries to.
        eventually(lambda: LEFT in worker.log, within=40, every=0.1)
        assert called.state not in ("FAILURE", "REVOKED")
        mortal.start()
        world.store.dispose()
        assert len(called.get(timeout=60)) == 3
        assert (world.status(called.id), called.state) == ("completed", "SUCCESS")
    # What was recorded is not done again; what could not be is.
    counts = world.counts()
    assert [counts[f"{called.id} {step}"] for step in ("first", "second", "third")] == [1, 2, 1]
