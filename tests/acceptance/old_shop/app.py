"""A shop on plain Celery, as it is found: `celery -A old_shop.app flows adopt`."""

from celery import Celery
from celery.schedules import crontab

app = Celery("old_shop", broker="memory://", include=["old_shop.tasks", "old_shop.views"])
app.conf.timezone = "Europe/Paris"
app.conf.task_annotations = {"old_shop.tasks.geocode": {"rate_limit": "100/h"}}
app.conf.beat_schedule = {
    "nightly": {"task": "old_shop.tasks.clean_up", "schedule": crontab(minute=30, hour=2)},
    "pulse": {"task": "old_shop.tasks.report", "schedule": 300.0, "args": ("team@example.com",), "kwargs": {"days": 1}},
    "odd": {"task": "old_shop.tasks.clean_up", "schedule": 77.0},
}


@app.on_after_finalize.connect
def add_more(sender, **_):
    sender.add_periodic_task(
        crontab(day_of_week="mon-fri", hour=9, minute=0), sender.tasks["old_shop.tasks.clean_up"].s(), name="mornings"
    )
