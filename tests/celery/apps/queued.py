"""Flows that go to queues in each way in which Celery knows one: by default, by a route, by an option, by the call."""

from tests.celery.apps.sheet import Sheet, witness

SHEET = Sheet("queued")


@SHEET.flow(trigger="order/placed")
def bill(ctx):
    """Goes where all goes that says nothing."""
    ctx.step.run("bill", witness, "billed", ctx.event.data["n"])


@SHEET.flow(trigger="order/packed")
def ship(ctx):
    """Goes where a route of the settings says."""
    ctx.step.run("ship", witness, "shipped", ctx.event.data["n"])


@SHEET.flow(trigger="order/sent", routing_key="post.abroad")
def post(ctx):
    """Goes by a routing key."""
    ctx.step.run("post", witness, "posted", ctx.event.data["n"])


@SHEET.flow(trigger="order/kept", queue="archive", priority=3)
def keep(ctx):
    """Says its queue, and goes first there."""
    ctx.step.run("keep", witness, "kept", ctx.event.data["n"])


app = SHEET.worker_app()
