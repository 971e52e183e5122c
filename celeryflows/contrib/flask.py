"""celeryflows in a Flask app: its Celery app, the context of its steps, `flask flows`, and the dashboard."""

from types import SimpleNamespace
from typing import Any

import click
from celery import Celery, Task
from flask import Flask

from celeryflows.app import Flows
from celeryflows.cli import COMMANDS
from celeryflows.cli.opening import FlowsGroup
from celeryflows.errors import ConfigurationError


def init_app(flask_app: Flask, flows: Flows, *, dashboard: str | None = None) -> Celery:
    """Serve a Flask app, in its factory: its Celery app, which is made when there is none.

    `dashboard` is the URL prefix of the pages, such as "/flows"; default: none. `flask flows ...` is there afterwards.
    Raises ConfigurationError for a Flask app that has a Flows already, or pages without a `secret_key`.
    """
    app: Celery = flask_app.extensions.get("celery") or make_celery(flask_app)
    flows.init_app(flask_app)
    flask_app.cli.add_command(FlaskFlowsGroup(app))
    if dashboard is not None:
        _serve_pages(flask_app, flows, dashboard)
    return app


def make_celery(flask_app: Flask) -> Celery:
    """The Celery app of a Flask app, as Flask's manual makes it: tasks, handlers and steps run in the app's context.

    Its settings are the mapping `flask_app.config["CELERY"]`; it stands in `extensions["celery"]`.
    """

    class ContextTask(Task):
        """Opens the app's context around each delivery, and closes it with its database sessions."""

        abstract = True

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with flask_app.app_context():
                return self.run(*args, **kwargs)

    app = Celery(flask_app.import_name, task_cls=ContextTask)
    app.config_from_object(flask_app.config.get("CELERY") or {})
    app.set_default()
    flask_app.extensions["celery"] = app
    return app


class FlaskFlowsGroup(FlowsGroup):
    """`flask --app shop flows ...`: what `celery -A shop flows ...` does."""

    def __init__(self, app: Celery) -> None:
        super().__init__("flows", commands_of=COMMANDS, help="Durable flows: runs, events, send, doctor and the rest.")
        self._app = app

    def invoke(self, ctx: click.Context) -> Any:
        """Flask's place is taken by what Celery's own command line hands to its commands."""
        ctx.obj = SimpleNamespace(app=self._app)
        return super().invoke(ctx)


def _serve_pages(flask_app: Flask, flows: Flows, prefix: str) -> None:
    # It is optional, and needs more than Flask alone.
    from flask_dashboard import create_blueprint

    if not flask_app.secret_key:
        raise ConfigurationError("The dashboard's forms need the Flask app's secret_key: set config['SECRET_KEY'].")
    flask_app.register_blueprint(create_blueprint(flows), url_prefix=prefix)
