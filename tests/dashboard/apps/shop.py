"""A shop that is sent events by HTTP: `gunicorn tests.dashboard.apps.shop:web`."""

from typing import Any

from flask import Flask

from flask_dashboard.door import open_door
from flask_dashboard.doors import create_doors
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


def make_web(celery: Any) -> Flask:
    """The doors alone as a WSGI app."""
    web = Flask("doors")
    web.register_blueprint(create_doors(open_door(celery.flows)))
    return web


app = sheet.worker_app()
web = make_web(app) if app is not None else None
