"""All HTTP doors as one blueprint: the Event API, the REST API, webhooks, metrics and probes."""

from flask import Blueprint

from flask_dashboard.door import Door
from flask_dashboard.event_api import create_event_api


def create_doors(door: Door) -> Blueprint:
    """The doors, to be registered in the dashboard's blueprint or in an app of their own."""
    doors = Blueprint("doors", __name__)
    doors.register_blueprint(create_event_api(door))
    return doors
