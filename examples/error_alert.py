"""Every run that fails, of whatever flow, is told to a chat's webhook. From the folder above, with `pip install httpx`:

ALERT_URL=https://hooks.slack.com/services/... celery -A examples.error_alert flows dev
celery -A examples.error_alert flows send invoice/due '{"customer": "acme", "amount": -5}'"""

import os

import httpx
from celery import Celery

from celeryflows import Flows, NonRetriableError, RateLimit

app = Celery("error_alert", broker="redis://localhost:6379/0")
flows = Flows(app)


def post(text):
    """Say it in the chat. A failed call is an error, and tried again."""
    httpx.post(os.environ["ALERT_URL"], json={"text": text}, timeout=10).raise_for_status()


# A bad deploy fails a thousand runs in a minute: one alert for each flow in ten minutes, the others are skipped.
@flows.flow(
    name="alert",
    trigger="flows/run.failed",
    rate_limit=RateLimit(1, "10m", key="event.data.flow"),
    retries=10,
)
def alert(ctx):
    """Tell which run failed, and why. A failure of this flow itself starts no other alert."""
    failed = ctx.event.data
    error = failed["error"]
    where = f" in step {error['step_id']!r}" if error["step_id"] else ""
    ctx.step.run("post", post, f"{failed['flow']} failed{where}: {error['message']} (run {failed['run_id']})")


@flows.flow(name="send_invoice", trigger="invoice/due")
def send_invoice(ctx):
    """A flow as you have it already."""
    ctx.step.run("write", write_invoice, **ctx.event.data)


def write_invoice(customer, amount):
    """It fails on what cannot be billed."""
    if amount <= 0:
        raise NonRetriableError(f"{customer} owes {amount}")
