"""The pytest plugin: the fixture `flows_tester`."""

from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows.app import current_flows
from celeryflows.testing import FlowsTester


@pytest.fixture
def flows() -> Any:
    """The Flows under test: that of Celery's current app. Override it to test another."""
    return current_flows


@pytest.fixture
def flows_tester(flows: Any) -> Iterator[FlowsTester]:
    """A world of its own for the flows: see celeryflows.testing.FlowsTester."""
    with FlowsTester(flows) as tester:
        yield tester
