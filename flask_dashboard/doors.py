"""All HTTP doors as one blueprint: the Event API, the REST API, webhooks, metrics and probes."""

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from flask_dashboard.door import Door
from flask_dashboard.event_api import create_event_api
from flask_dashboard.hooks import create_hooks
from flask_dashboard.probes import create_probes
from flask_dashboard.rest_api import create_rest_api
from flask_dashboard.rest_forms import refusal

OURS = ("/v1/", "/e/", "/hooks/")


def create_doors(door: Door) -> Blueprint:
    """The doors, to be registered in the dashboard's blueprint or in an app of their own."""
    doors = Blueprint("doors", __name__)
    doors.register_blueprint(create_event_api(door))
    doors.register_blueprint(create_rest_api(door))
    doors.register_blueprint(create_hooks(door))
    doors.register_blueprint(create_probes(door))
    return doors


def nothing_here(error: NotFound) -> Response | NotFound:
    """What a client of the doors is told when there is nothing: JSON, as of all else."""
    if not request.path.startswith(OURS):
        return error
    no_route = request.url_rule is None
    return refusal(404, "There is nothing at this address." if no_route else error.description or error.name)
