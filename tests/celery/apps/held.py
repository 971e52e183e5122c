"""Limited flows whose steps stay inside until the test lets them go: `celery -A tests.celery.apps.held`."""

from typing import Any

from celeryflows import Concurrency, Throttle
from tests.celery.apps.sheet import Sheet, pass_gate, witness

sheet = Sheet("held")


@sheet.flow(trigger="held/ordered", concurrency=[Concurrency(1, key="event.data.account"), Concurrency(3)])
def ship(ctx: Any) -> None:
    """Inside two limits for a while."""
    ctx.step.run("pack", pack, ctx.event.data["account"])


def pack(account: str) -> None:
    """Tell that it is inside."""
    witness("inside", account)
    pass_gate("packed")


@sheet.flow(trigger="held/paid", throttle=Throttle(1, "1h"))
def bill(ctx: Any) -> None:
    """One an hour."""


app = sheet.worker_app()
