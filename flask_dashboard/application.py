"""A Flask app of the dashboard alone, for `flows dashboard`, `flows dev` and any WSGI server."""

from datetime import timedelta

from flask import Flask
from werkzeug.exceptions import NotFound

from celeryflows import Flows
from celeryflows.console.session_key import session_key
from flask_dashboard.blueprint import create_blueprint
from flask_dashboard.doors import nothing_here
from flask_dashboard.security import protect
from flask_dashboard.sessions import Sessions

# A form of ours: a JSON editor's text and few small fields.
MOST_BYTES = 2 * 1024 * 1024


def create_app(flows: Flows) -> Flask:
    """The dashboard of an app's flows, as a WSGI app. Raises StoreError when the store cannot be used."""
    app = Flask("flask_dashboard", static_folder=None)
    # Kept in the store: every process that serves the dashboard reads the others' sessions.
    app.secret_key = flows.door_settings.secret_key or session_key(flows.runtime)
    app.session_interface = Sessions()
    app.config.update(
        SESSION_COOKIE_NAME="flows_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        PERMANENT_SESSION_LIFETIME=timedelta(hours=12),
        MAX_CONTENT_LENGTH=MOST_BYTES,
        MAX_FORM_MEMORY_SIZE=MOST_BYTES,
    )
    app.register_blueprint(create_blueprint(flows))
    app.register_error_handler(NotFound, nothing_here)
    app.after_request(protect)
    return app
