"""The dashboard as a blueprint, for a Flask app that has other pages too."""

from flask import Blueprint, g

from celeryflows import Flows
from flask_dashboard.door import open_door
from flask_dashboard.doors import create_doors
from flask_dashboard.pages import create_pages
from flask_dashboard.security import protect
from flask_dashboard.sessions import install_logins


def create_blueprint(flows: Flows, name: str = "flows") -> Blueprint:
    """The dashboard of an app's flows: `app.register_blueprint(create_blueprint(flows), url_prefix="/flows")`.

    The Flask app needs a `secret_key`, for the tokens of its forms.
    """
    door = open_door(flows)
    desk = Blueprint(name, __name__)
    desk.record_once(lambda state: install_logins(state.app, door.settings))

    @desk.before_request
    def open_desk() -> None:
        g.flows = flows
        g.door = door

    desk.after_request(protect)
    desk.register_blueprint(create_doors(door))
    desk.register_blueprint(create_pages())
    return desk
