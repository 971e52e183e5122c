"""A connection to the broker for publishers: it gives up within seconds, and keeps its Redis client."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu.messaging import Producer
from kombu.utils import json

from celeryflows.ids import new_id

# Publishing must come back soon when the broker is down: what is not sent, recovery sends.
QUICK = {
    "socket_connect_timeout": 1.0,
    "socket_timeout": 2.0,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}
REDIS = ("redis", "rediss", "sentinel", "valkey")


class QuickProducer(Producer):
    """Declares each queue once a connection: kombu copies queue and exchange for each message to find that they are."""

    def maybe_declare(self, entity: Any, *retry: Any, **policy: Any) -> Any:
        """Declare what this connection has not declared yet. A connection that is lost forgets what it has."""
        known = getattr(self.connection, "declared_entities", None)
        if known and entity and hash(entity) in known and entity.can_cache_declaration:
            return False
        return super().maybe_declare(entity, *retry, **policy)


def quick_connection(app: Celery) -> Any:
    """A connection to the broker that gives up within seconds."""
    options = dict(app.conf.broker_transport_options or {})
    url = str(app.conf.broker_write_url or app.conf.broker_url or "")
    if not url.startswith(REDIS):
        return app.connection_for_write(transport_options=options, connect_timeout=1)
    connection = app.connection_for_write(transport_options={**QUICK, **options}, connect_timeout=1)
    if url.startswith(("redis://", "rediss://")):
        connection.transport_cls = _keeping_its_client(connection.get_transport_cls())
    return connection


def heard_by(channel: Any) -> int | None:
    """How many listened to what was last sent to all; None where the broker does not tell."""
    found: int | None = getattr(channel, "heard_by", None)
    return found


def _keeping_its_client(transport: Any) -> Any:
    """kombu makes a Redis client for each command of a publisher, a fifth of a message's cost; one serves as well,
    for its commands take their connections from the channel's pool."""

    class Channel(transport.Channel):
        _kept: Any = None
        heard_by: int | None = None

        def _next_delivery_tag(self) -> str:
            # As unique as kombu's, without a call of the system for each message.
            return new_id()

        @contextmanager
        def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
            if client is None:
                if self._kept is None:
                    self._kept = self._create_client()
                client = self._kept
            yield client

        def _put_fanout(self, exchange: str, message: Any, routing_key: str, **_: Any) -> None:
            # As kombu's, which drops what Redis tells: how many listen.
            with self.conn_or_acquire() as client:
                topics = self._get_publish_topics(exchange, routing_key)
                self.heard_by = max(client.publish(topic, json.dumps(message)) for topic in topics)

    return type("Transport", (transport,), {"Channel": Channel})
