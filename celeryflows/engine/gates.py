"""Gates: throttle and concurrency, the last that a start passes. What does not fit is held in the store, in a line."""

from collections.abc import Sequence

from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starts import Start
from celeryflows.store.connection import Connection


def lock_meters(tx: Connection, starts: Sequence[Start]) -> None:
    """Lock class 3: the meters of throttles that these may meet in `enter`."""


def enter(runtime: Runtime, tx: Connection, starts: Sequence[Start]) -> list[Start]:
    """Lock class 6: those that may start now enter their gates or are held there; their runs are not written yet.

    Each `start.may_start` gets the place of its run (`NewRun.place`): gates, slots, or where it is held. Those that are
    scheduled, skipped or joined are left as they are.
    """
    return list(starts)
