"""The test kit: `FlowsTester`, and under pytest the fixture `flows_tester`."""

from celeryflows.testing.tester import FlowsTester

__all__ = ["FlowsTester"]
