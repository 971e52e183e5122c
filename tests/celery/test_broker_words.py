"""What the sweeper asks of a real broker: its two words, and how long a queue is."""

import json
import logging
from collections.abc import Iterator

import pytest
import redis
from celery import Celery

from celeryflows.celery_bridge.broker import CeleryBroker
from celeryflows.model.runs import Delivery

KEY = "celeryflows:store:shop"


@pytest.fixture
def broker(broker_url: str) -> Iterator[CeleryBroker]:
    app = Celery("shop", broker=broker_url, set_as_current=False)
    app.conf.task_routes = {"shop.mail": {"queue": "letters"}}
    made = CeleryBroker(app, "shop")
    yield made
    made.close()
    app.close()


@pytest.fixture
def client(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as made:
        yield made


def test_a_broker_that_lost_everything_is_told_the_store_again(broker: CeleryBroker, client: redis.Redis) -> None:
    broker.check_store("mine", "sqlite:///mine")
    first = broker.epoch()
    client.flushdb()
    assert broker.epoch() not in (None, first)
    assert client.get(KEY) == b"mine sqlite:///mine"


def test_a_broker_that_was_told_of_another_store_meanwhile_is_an_error_in_the_log(
    broker: CeleryBroker, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    broker.check_store("mine", "sqlite:///mine")
    broker.epoch()
    client.flushdb()
    client.set(KEY, "other sqlite:///other")
    with caplog.at_level(logging.ERROR):
        broker.epoch()
        broker.epoch()
    [record] = caplog.records
    assert "sqlite:///other" in record.getMessage()
    assert "sqlite:///mine" in record.getMessage()
    assert client.get(KEY) == b"other sqlite:///other"


def test_the_queue_of_a_run_is_the_calls_own_else_the_routes(broker: CeleryBroker) -> None:
    assert broker.queue_of(Delivery("r", "shop.order")) == "celery"
    assert broker.queue_of(Delivery("r", "shop.mail")) == "letters"
    assert broker.queue_of(Delivery("r", "shop.mail", json.dumps({"queue": "fast"}))) == "fast"


def test_a_queue_that_is_not_there_is_empty_and_a_broker_that_is_away_cannot_tell(
    broker: CeleryBroker, client: redis.Redis
) -> None:
    assert broker.length("nothing") == 0
    client.rpush("letters", "one", "two")
    assert broker.length("letters") == 2
    away = CeleryBroker(Celery("shop", broker="redis://127.0.0.1:1/0", set_as_current=False), "shop")
    assert away.length("letters") is None
