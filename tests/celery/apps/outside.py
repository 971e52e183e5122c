"""A service without our extension: `celery -A tests.celery.apps.outside worker -Q outside`."""

import json
import os

from celery import Celery

app = Celery("outside", set_as_current=False)
app.conf.update(
    {key: value for key, value in json.loads(os.environ.get("APP_SETTINGS", "{}")).items() if "flows" not in key}
)


@app.task(name="outside.order", shared=False)
def order(user: str, count: int) -> list[str]:
    """Call another service's task by its name."""
    return [app.send_task("shipping.ship", (user,), {"no": no}, queue="ours").id for no in range(count)]


@app.task(name="outside.add", shared=False)
def add(x: int, y: int) -> int:
    """Something that the other service chains its calls to."""
    return x + y
