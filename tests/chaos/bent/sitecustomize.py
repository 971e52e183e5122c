"""Loaded first by a worker whose clock libfaketime bends: that library refuses the call by which Python sleeps."""

import select
import time


def sleep(seconds: float) -> None:
    """The same, by a call that goes through."""
    select.select([], [], [], seconds)


time.sleep = sleep
