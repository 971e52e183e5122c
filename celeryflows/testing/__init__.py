"""The test kit: `FlowsTester`, under pytest the fixture `flows_tester`, and `check_history`."""

from celeryflows.testing.histories import HistoryReport, check_history
from celeryflows.testing.tester import FlowsTester

__all__ = ["FlowsTester", "HistoryReport", "check_history"]
