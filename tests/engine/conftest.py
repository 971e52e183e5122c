"""An app of its own for each test; `flows_tester` runs its flows in place."""

from collections.abc import Iterator

import pytest
from celery import Celery
from sqlalchemy import Engine

from celeryflows import Flows
from celeryflows.clock import TurnedClock
from celeryflows.store.database import Store
from celeryflows.testing import FlowsTester
from tests.engine.orders import callers_engine
from tests.engine.world import NEW_YEAR, World, store_at
from tests.kinds import KINDS
from tests.store.lossy import LossyStore


@pytest.fixture
def app() -> Celery:
    """A Celery app that nobody else sees."""
    return Celery("tests", broker="memory://", set_as_current=False)


@pytest.fixture
def flows(app: Celery) -> Flows:
    """Its Flows."""
    return Flows(app)


@pytest.fixture(params=["carried", "spread"])
def each_way(request: pytest.FixtureRequest, flows_tester: FlowsTester) -> None:
    """Branches taken on by the delivery that opens their group, and each by its own message."""
    flows_tester._runtime.carries = request.param == "carried"


@pytest.fixture
def world() -> Iterator[World]:
    """Several processes over one store, for what the test kit's one cannot show."""
    world = World()
    yield world
    world.close()


@pytest.fixture
def store_url(migrated_url: str) -> str:
    """A store of each kind in turn: its schema is there, and nothing else."""
    return migrated_url


@pytest.fixture
def shared(store_url: str) -> Iterator[World]:
    """A world on a store of each kind, at the machine's own time, which others reach by its URL."""
    world = World(store_at(store_url))
    yield world
    world.close()


@pytest.fixture
def lossy(store_url: str) -> Iterator[World]:
    """A world whose store's link breaks when told to."""
    store_at(store_url).dispose()
    world = World(LossyStore(store_url, clock=TurnedClock(NEW_YEAR)))
    yield world
    world.close()


@pytest.fixture(params=KINDS)
def turned(request: pytest.FixtureRequest) -> Iterator[World]:
    """A world with a turned clock on a store of each kind, in memory where there can be one."""
    if request.param == "sqlite":
        world = World()
    else:
        world = World(Store(request.getfixturevalue(f"migrated_{request.param}"), clock=TurnedClock(NEW_YEAR)))
    yield world
    world.close()


@pytest.fixture
def engine(shared: World) -> Iterator[Engine]:
    """A caller's own engine on the database of `shared`, with its own tables."""
    engine = callers_engine(shared.store.url)
    yield engine
    engine.dispose()
