"""A dashboard in this process, over a store of its own: for what needs neither worker nor browser."""

import os
from collections.abc import Iterator

import pytest
from celery import Celery
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser

from celeryflows import Flows
from flask_dashboard import create_app
from tests.dashboard.browsing import BrowserMissing, running_browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real browser. In CI it has to be there."""
    try:
        with running_browser() as browser:
            yield browser
    except BrowserMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


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
