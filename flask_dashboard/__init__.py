"""The dashboard: pages, Event API and REST API as a Flask app or blueprint, over `celeryflows.console`."""

from flask_dashboard.application import create_app
from flask_dashboard.blueprint import create_blueprint

__all__ = ["create_app", "create_blueprint"]
