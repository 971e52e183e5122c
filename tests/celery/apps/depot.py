"""Another team's app, plain Celery without our extension: `celery -A tests.celery.apps.depot`."""

import json
import os
import time
from typing import Any

from celery import Celery

from tests.celery.apps.sheet import first_time, pass_gate, witness

app = Celery("depot", set_as_current=False)
app.conf.update(
    {k: v for k, v in json.loads(os.environ.get("APP_SETTINGS", "{}")).items() if not k.startswith("flows")}
)


@app.task(name="depot.pack", shared=False)
def pack(order: str, weight: int = 1) -> dict[str, Any]:
    witness("pack", order)
    return {"order": order, "weight": weight, "sizes": (1, 2)}


@app.task(name="depot.refuse", shared=False)
def refuse(order: str) -> None:
    witness("refuse", order)
    raise ValueError(f"no stock for {order}")


@app.task(name="depot.flaky", shared=False, autoretry_for=(ConnectionError,), max_retries=3, default_retry_delay=0)
def flaky(order: str) -> str:
    witness("flaky", order)
    if first_time(f"flaky.{order}") or first_time(f"flaky again.{order}"):
        raise ConnectionError("the depot does not answer")
    return f"{order} at last"


@app.task(name="depot.hold", shared=False)
def hold(order: str, gate: str) -> str:
    witness("hold", order)
    pass_gate(gate)
    return f"{order} held"


@app.task(name="depot.weigh", shared=False)
def weigh(n: int) -> int:
    time.sleep(0.05)
    return n


@app.task(name="depot.total", shared=False)
def total(values: list[int]) -> int:
    return sum(values)


@app.task(name="depot.replaced", bind=True, shared=False)
def replaced(self: Any, order: str) -> Any:
    witness("replaced", order)
    return self.replace(pack.s(order, weight=7).set(queue="depot"))
