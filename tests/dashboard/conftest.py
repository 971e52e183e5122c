"""A dashboard in this process, over a store of its own: for what needs neither worker nor browser."""

from collections.abc import Iterator

import pytest
from celery import Celery
from flask import Flask
from flask.testing import FlaskClient

from celeryflows import Flows
from flask_dashboard import create_app


@pytest.fixture
def shop(tmp_path) -> Iterator[Flows]:
    """An app with one flow that nothing runs."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.flows_store_url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    flows = Flows(app)

    @flows.flow(name="greet", trigger="user/came")
    def greet(ctx):
        return ctx.event.data

    yield flows
    flows.runtime.store.dispose()
    app.close()


@pytest.fixture
def dashboard(shop) -> Flask:
    """The dashboard's app."""
    return create_app(shop)


@pytest.fixture
def browser(dashboard) -> FlaskClient:
    """Somebody at this host."""
    return dashboard.test_client()
