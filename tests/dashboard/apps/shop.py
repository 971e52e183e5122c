"""A shop behind its dashboard: `gunicorn tests.dashboard.apps.shop:web`."""

from typing import Any

from flask_dashboard import create_app
from tests.celery.apps.sheet import Sheet

sheet = Sheet("shop")


@sheet.flow(trigger="order/placed")
def ship(ctx: Any) -> str:
    """Ship an order."""
    return str(ctx.step.run("pack", dict, id=ctx.event.data.get("id")))


@sheet.flow(trigger="order/asked")
def answer(ctx: Any) -> Any:
    """Wait for a word."""
    found = ctx.step.wait_for_signal("word", f"word/{ctx.event.data['id']}", timeout="1h")
    return None if found is None else found.data


app = sheet.worker_app()
web = create_app(app.flows) if app is not None else None
