"""The dashboard behind real servers: loopback is open where the server tells that it is bound there, or where the
settings say so; what is bound elsewhere, or does not tell, is closed, and says what would open it."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from waitress import create_server

from celeryflows import ConfigurationError
from celeryflows.cli.dashboard_command import server_for
from celeryflows.settings.doors import read_doors
from flask_dashboard import create_app
from tests.dashboard.served import served as gunicorn


@contextmanager
def waitress(app: Any, host: str) -> Iterator[str]:
    """As in anybody's own code: waitress tells no name."""
    server = create_server(app, host=host, port=0, threads=2)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        server.task_dispatcher.shutdown()
        server.close()
        thread.join(timeout=10)


def test_a_server_that_does_not_tell_its_address_is_closed_and_names_the_setting(shop):
    with waitress(create_app(shop), "127.0.0.1") as url:
        refused = httpx.get(f"{url}/runs")
        assert refused.status_code == 403
        assert "flows_bound_to = " in refused.text
        assert "127.0.0.1" in refused.text
        assert httpx.get(f"{url}/v1/events").status_code == 401
        assert httpx.post(f"{url}/e/any", json={"name": "user/came"}).status_code == 401

    shop._wiring.current.app.conf.flows_bound_to = "127.0.0.1"
    with waitress(create_app(shop), "127.0.0.1") as url:
        assert httpx.get(f"{url}/runs").status_code == 200
        assert httpx.get(f"{url}/v1/events").status_code == 200
        assert httpx.post(f"{url}/e/any", json={"name": "user/came"}).status_code == 200
        assert httpx.get(f"{url}/runs", headers={"Host": "rebound.example"}).status_code == 403


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 200), ("0.0.0.0", 403)])
def test_a_server_that_tells_its_address_is_open_on_loopback_alone(tmp_path, host, status):
    settings = {"flows_store_url": f"sqlite:///{tmp_path / 'store.sqlite3'}", "broker_url": "memory://"}
    with gunicorn("tests.dashboard.apps.shop:web", settings, host=host) as server:
        answer = httpx.get(f"{server.url}/runs")
        assert answer.status_code == status
        assert ("flows_users" in answer.text) == (status == 403)


def test_a_full_collection_in_our_own_server_does_not_walk_through_the_libraries(shop):
    before = len(gc.get_objects())
    server = server_for(shop, "127.0.0.1", 0)
    try:
        assert len(gc.get_objects()) < before / 10
        assert gc.get_freeze_count() > before / 2
    finally:
        gc.unfreeze()
        server.close()


def test_a_server_whose_name_is_that_of_its_host_is_closed(browser):
    # As uWSGI tells it, wherever it is bound to.
    refused = browser.get("/runs", environ_overrides={"SERVER_NAME": "web-7"})
    assert refused.status_code == 403
    assert "web-7" in refused.text
    assert "flows_bound_to" not in browser.get("/runs", environ_base={"REMOTE_ADDR": "192.0.2.7"}).text


def test_an_address_that_the_settings_name_counts_more_than_what_the_server_tells(shop):
    shop._wiring.current.app.conf.flows_bound_to = "0.0.0.0"
    assert create_app(shop).test_client().get("/runs").status_code == 403


@pytest.mark.parametrize("address", ["", "127.0.0.1:8288", "web-7", 8288])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigurationError, match="flows_bound_to"):
        read_doors({"bound_to": address})
