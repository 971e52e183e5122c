"""Runs that the leader has counted, as in a store that has been at work for a while: quick ones travel together."""

import time
from collections.abc import Sequence

from celeryflows import Event, Flows
from celeryflows.engine.paces import FRESH_FOR, LATELY, WORTH
from tests.waiting import eventually

# A leader that begins with a long past counts that back for a day, a few buckets at a time.
WITHIN = 300.0


def get_counted(flows: Flows, flow: str, events: Sequence[Event]) -> None:
    """Let the leader count runs that these events start, and this process know it. Raises AssertionError."""
    assert len(events) > WORTH
    flows.send(events)

    def is_counted() -> bool:
        with flows.runtime.store.connection() as connection:
            return flow in connection.figures.paces(LATELY, WORTH)

    eventually(is_counted, within=WITHIN, every=0.5)
    time.sleep(FRESH_FOR)
