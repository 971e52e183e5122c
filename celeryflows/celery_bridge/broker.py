"""What the sweeper asks of the broker, over a connection of its own that gives up soon."""

import logging
from typing import Any

from celery import Celery
from kombu.exceptions import ChannelError, OperationalError
from kombu.utils import json

from celeryflows.celery_bridge.queue_reading import QueueReader
from celeryflows.celery_bridge.quick_connection import quick_connection
from celeryflows.codec import is_sealed
from celeryflows.errors import StoreMismatch
from celeryflows.ids import new_id
from celeryflows.model.runs import Delivery

logger = logging.getLogger("celeryflows")


def queue_of(app: Celery, delivery: Delivery) -> str:
    """The queue of the call's own or the flow's, else the one that Celery's routes choose for the flow: by its name, or
    by the routing key that a declared queue is bound by."""
    binding = getattr(app, "flows_binding", None)
    options = dict(binding.sent_with(delivery.flow)) if binding is not None else {}
    if delivery.message and not is_sealed(delivery.message):
        options |= json.loads(delivery.message)
    if options.get("queue"):
        return str(options["queue"])
    name = binding.task_of(delivery.flow) if binding is not None else delivery.flow
    route = app.amqp.router.route(options, name, task_type=app.tasks.get(name))
    usual = str(app.conf.task_default_queue)
    queue = getattr(route.get("queue"), "name", route.get("queue")) or usual
    # Celery names the default queue also where a routing key leads elsewhere.
    return str((_bound_by(app, route.get("routing_key")) if queue == usual else None) or queue)


def kept_word(channel: Any, key: str) -> str | None:
    """A word of ours in Redis. Under a key prefix kombu writes with the prefix, and reads without."""
    prefix = getattr(channel, "global_keyprefix", None) or ""
    kept = channel.client.get(f"{prefix}{key}")
    if kept is None and prefix:
        kept = channel.client.get(key)
    return kept.decode() if isinstance(kept, bytes) else kept


def _bound_by(app: Celery, key: Any) -> str | None:
    return next((name for name, queue in app.amqp.queues.items() if key and queue.routing_key == key), None)


class CeleryBroker:
    """Answers by kombu's channel: any broker tells queue lengths, Redis and its kind also keep two words of ours."""

    def __init__(self, app: Celery, name: str) -> None:
        self._app = app
        self._name = name
        self._connection: Any = None
        self._store: tuple[str, str] | None = None
        self._epoch: str | None = None
        self._reader = QueueReader()

    def epoch(self) -> str | None:
        """The word that the broker forgets with everything else; None where it keeps no words, or does not answer."""
        word = self._remember(f"celeryflows:epoch:{self._name}", new_id())
        if word is not None and word != self._epoch:
            self._epoch = word
            self._check_again()
        return word

    def _check_again(self) -> None:
        """It was away when the worker started, or has lost everything: it is told the store, or tells of another."""
        if self._store is None:
            return
        try:
            self.check_store(*self._store)
        except StoreMismatch as error:
            logger.error("%s", error)

    def check_store(self, identity: str, shown_url: str) -> None:
        """Raise StoreMismatch when the broker remembers another store for this app."""
        self._store = (identity, shown_url)
        key = f"celeryflows:store:{self._name}"
        kept = self._remember(key, f"{identity} {shown_url}")
        if kept is not None and kept.split(" ", 1)[0] != identity:
            raise StoreMismatch(
                f"The app {self._name!r} has its store at {kept.split(' ', 1)[-1]}, but this process uses {shown_url}. "
                "Processes that share a broker must share a store: set the same flows_store_url everywhere, or, when "
                f"the store was moved or removed on purpose, delete the key {key!r} in the broker."
            )

    def queue_of(self, delivery: Delivery) -> str:
        """The queue that a run's message goes to."""
        return queue_of(self._app, delivery)

    def length(self, queue: str) -> int | None:
        """Messages that no worker has taken; None when the broker cannot tell."""
        channel = self._channel()
        if channel is None:
            return None
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except ChannelError:
            # A queue that is not there is empty; Redis makes it with the first message. Under a key prefix kombu looks
            # for it without the prefix, and counts it with.
            return int(channel._size(queue)) if self._client() is not None else None
        except Exception as error:
            logger.debug("the broker does not answer: %s", error)
            self._connection = None
            return None

    def holds(self, queue: str, task_id: str, since: float) -> bool | None:
        """True when the queue holds a message of this task, or one that answers it, as read not earlier than `since` of
        the monotonic clock; None when the broker cannot tell."""
        try:
            return self._reader.holds(self._channel(), queue, task_id, since)
        except Exception as error:
            logger.debug("the broker does not answer: %s", error)
            self._connection = None
            return None

    def answers(self) -> bool:
        """True when the broker can be asked."""
        return self._channel() is not None

    def close(self) -> None:
        """Drop the connection; the next question opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    def _remember(self, key: str, word: str) -> str | None:
        client = self._client()
        if client is None:
            return None
        try:
            client.set(key, word, nx=True)
            return kept_word(self._channel(), key)
        except Exception as error:
            logger.debug("the broker does not answer: %s", error)
            self._connection = None
            return None

    def _client(self) -> Any:
        client = getattr(self._channel(), "client", None)
        return client if hasattr(client, "set") else None

    def _channel(self) -> Any:
        try:
            if self._connection is None:
                self._connection = quick_connection(self._app)
            return self._connection.default_channel
        except (OperationalError, OSError, ConnectionError):
            self._connection = None
            return None
