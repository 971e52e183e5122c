"""An app of its own for each test; `flows_tester` runs its flows in place."""

import pytest
from celery import Celery

from celeryflows import Flows


@pytest.fixture
def app() -> Celery:
    """A Celery app that nobody else sees."""
    return Celery("tests", broker="memory://", set_as_current=False)


@pytest.fixture
def flows(app: Celery) -> Flows:
    """Its Flows."""
    return Flows(app)
