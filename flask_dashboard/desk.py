"""The desk of the request at hand: the flows that it is about, and the engine that the console asks."""

from typing import Any

from flask import g

from celeryflows import Flows


def flows() -> Flows:
    """The flows of the app whose dashboard is asked."""
    found: Flows = g.flows
    return found


def runtime() -> Any:
    """Their engine, which every function of the console takes. Raises StoreError when the store cannot be used."""
    return flows().runtime


def app_name() -> str:
    """The name of the Celery app."""
    return str(runtime().app)
