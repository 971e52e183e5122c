"""A browser over a real worker: fixtures for the tests of pages that somebody looks at while runs go on."""

from collections.abc import Callable, Iterator

import pytest

from celeryflows import Event
from tests.celery.apps.store_front import SHEET
from tests.dashboard.browsing import Reader, served
from tests.worlds import BRISK, World, made_world

__all__ = ["address", "flows", "reader", "started", "world"]


@pytest.fixture(scope="module")
def world(chromium, redis_server, broker_databases, tmp_path_factory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("front")
    with (
        made_world(redis_server, next(broker_databases), None, folder, **BRISK) as world,
        world.worker("tests.celery.apps.store_front", "-c", "4", "-P", "threads"),
    ):
        yield world


@pytest.fixture(scope="module")
def flows(world):
    return world.app(SHEET).flows


@pytest.fixture(scope="module")
def address(flows) -> Iterator[str]:
    with served(flows) as address:
        yield address


@pytest.fixture
def reader(chromium, address) -> Iterator[Reader]:
    reader = Reader(chromium, address)
    yield reader
    complaints, title = reader.complaints, reader.page.title()
    reader.close()
    assert complaints == []
    assert "broken in" not in title


@pytest.fixture
def started(world, flows) -> Callable[..., str]:
    """Sends an event; the id of the run that it starts, once that has ended so (None: at once)."""

    def start(name: str, data: dict[str, object], ends: str | None = "completed") -> str:
        (event_id,) = flows.send(Event(name, data))
        (run_id,) = [row[0] for row in world.rows("SELECT id FROM flows_runs WHERE event_id = :id", id=event_id)]
        if ends is not None:
            world.ends(run_id, ends)
        return str(run_id)

    return start
