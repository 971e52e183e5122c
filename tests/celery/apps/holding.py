"""A flow whose step holds Python's interpreter lock: `celery -A tests.celery.apps.holding`."""

import os
import time
from itertools import repeat
from typing import Any

from tests.celery.apps.sheet import Sheet, witness

sheet = Sheet("holding")


def hold(run_id: str, seconds: float) -> int:
    """A call into C that lets no other thread of its process run."""
    witness(run_id, "hold")
    began = time.perf_counter()
    sum(repeat(0, 1_000_000))
    often = int(seconds / (time.perf_counter() - began)) * 1_000_000
    sum(repeat(0, often))
    return os.getpid()


@sheet.flow()
def holds(ctx: Any) -> int:
    """For as long as its event says."""
    return int(ctx.step.run("hold", hold, ctx.run_id, ctx.event.data["seconds"]))


app = sheet.worker_app()
