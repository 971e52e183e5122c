"""A flow by cron, told once for each minute: `celery -A tests.celery.apps.crons`."""

from typing import Any

from celeryflows import OnCron
from tests.celery.apps.sheet import Sheet, witness

sheet = Sheet("crons")


@sheet.flow(trigger=OnCron("* * * * *", missed="all"))
def minutely(ctx: Any) -> None:
    ctx.step.run("tell", witness, "minute", ctx.event.data["scheduled_at"])


app = sheet.worker_app()
