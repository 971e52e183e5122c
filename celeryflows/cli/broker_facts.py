"""What the doctor is told of the broker: asked over a connection of its own that gives up soon, nothing written."""

from collections.abc import Sequence
from typing import Any

from celery import Celery

from celeryflows.celery_bridge.broker import CeleryBroker, kept_word
from celeryflows.celery_bridge.quick_connection import quick_connection
from celeryflows.celery_bridge.settings import app_name
from celeryflows.console.doctor_broker import BrokerFacts
from celeryflows.model.runs import Delivery

DEFAULT_VISIBILITY = 3600
CONNECT_SECONDS = 3


def look_at_broker(app: Celery, flows: Sequence[str]) -> BrokerFacts:
    """Ask the app's broker. Never raises: a failure is a fact."""
    url, transport = "broker_url", ""
    try:
        with quick_connection(app) as connection:
            url, transport = shown_url(connection.as_uri()), str(connection.transport.driver_type)
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=CONNECT_SECONDS)
            return _ask(app, flows, connection, url, transport)
    except Exception as error:
        return BrokerFacts(url, transport, problem=_one_line(error))


def shown_url(masked: str) -> str:
    """Kombu shows a password also where there is none."""
    return masked.replace("://:**@", "://") if masked.startswith(("redis", "rediss")) else masked


def _ask(app: Celery, flows: Sequence[str], connection: Any, url: str, transport: str) -> BrokerFacts:
    name = app_name(app)
    key = f"celeryflows:store:{name}"
    client: Any = connection.default_channel.client if transport == "redis" else None
    return BrokerFacts(
        url=url,
        transport=transport,
        version=str(client.info("server").get("redis_version", "")) if client is not None else "",
        keeps_words=client is not None,
        kept_store=kept_word(connection.default_channel, key) if client is not None else None,
        kept_key=key,
        queues=_queues(app, name, flows),
        visibility_timeout=_visibility(app) if transport in ("redis", "SQS") else None,
    )


def _queues(app: Celery, name: str, flows: Sequence[str]) -> dict[str, int | None]:
    broker = CeleryBroker(app, name)
    try:
        queues = {broker.queue_of(Delivery("", flow)) for flow in flows} or {str(app.conf.task_default_queue)}
        return {queue: broker.length(queue) for queue in queues}
    finally:
        broker.close()


def _visibility(app: Celery) -> int:
    return int((app.conf.broker_transport_options or {}).get("visibility_timeout", DEFAULT_VISIBILITY))


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
