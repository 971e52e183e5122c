"""An app of its own for each test; `flows_tester` runs its flows in place."""

from collections.abc import Iterator

import pytest
from celery import Celery

from celeryflows import Flows
from tests.engine.world import World


@pytest.fixture
def app() -> Celery:
    """A Celery app that nobody else sees."""
    return Celery("tests", broker="memory://", set_as_current=False)


@pytest.fixture
def flows(app: Celery) -> Flows:
    """Its Flows."""
    return Flows(app)


@pytest.fixture
def world() -> Iterator[World]:
    """Several processes over one store, for what the test kit's one cannot show."""
    world = World()
    yield world
    world.close()
