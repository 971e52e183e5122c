"""Where a task's message is: in its queue, with a worker, or nowhere. Told by any broker and by workers without us."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery

from celeryflows.celery_bridge.broker import CeleryBroker
from celeryflows.celery_bridge.queue_reading import REST
from celeryflows.celery_bridge.quick_connection import heard_by, quick_connection
from celeryflows.celery_bridge.settings import app_name
from celeryflows.durations import SECOND
from celeryflows.model.remote_tasks import SentTask

logger = logging.getLogger("celeryflows")

# Workers have this long to tell what they have.
REPLY_SECONDS = 1.0
# A queue that is not empty is read for a task that was sent so long ago: most are answered sooner.
READ_AFTER = 30 * SECOND


@dataclass(frozen=True, slots=True)
class Told:
    """What workers told: the tasks that they have, who replied, how many replies there were (two workers may bear one
    name), and how many heard the question (None: unknown)."""

    held: frozenset[str]
    nodes: frozenset[str]
    replies: int
    listeners: int | None


class Whereabouts:
    """Asks the broker how long queues are, and all workers which tasks they have."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._broker = CeleryBroker(app, app_name(app))
        # Which queues each worker serves, as it told when it last replied.
        self._serves: dict[str, frozenset[str]] = {}

    def missing(self, tasks: Sequence[SentTask]) -> set[str]:
        """The ids of those that nobody has. None is while its queue may hold it, or while a worker that hears and may
        serve that queue does not reply: it may be at work on it."""
        empty = {queue for queue in {one.queue for one in tasks if one.queue} if self._broker.length(queue) == 0}
        lately = time.monotonic() - REST
        lost = [one for one in tasks if one.queue in empty or self._is_out_of(one, lately)]
        told = self._ask(sorted(one.id for one in lost)) if lost else None
        if told is None:
            return set()
        nobodys = [one for one in lost if one.id not in told.held and not self._may_be_silent(told, one.queue)]
        # Read once more: a worker that had it may have put it back, to try again.
        asked_at = time.monotonic()
        return {one.id for one in nobodys if one.queue in empty or self._is_out_of(one, asked_at)}

    def _is_out_of(self, task: SentTask, since: float) -> bool:
        """True when its queue, which is not empty, does not hold it."""
        readable = task.queue and task.age > READ_AFTER
        held = self._broker.holds(task.queue, task.id, since) if readable else None
        return task.overtaken if held is None else not held

    def _may_be_silent(self, told: Told, queue: str) -> bool:
        if not told.replies:
            return True
        if told.listeners is None:
            return False
        elsewhere = [node for node, queues in self._serves.items() if node not in told.nodes and queue not in queues]
        return told.replies + len(elsewhere) < told.listeners

    def _ask(self, ids: Sequence[str]) -> Told | None:
        """None when they cannot be asked."""
        try:
            with quick_connection(self._app) as connection:
                channel = connection.default_channel
                mailbox = self._app.control.mailbox(connection)
                # Else it publishes by the app's own connection, which may hang for minutes.
                mailbox.producer_pool = None
                served = _called(mailbox, channel, "active_queues", {})
                replies = _called(mailbox, channel, "query_task", {"ids": list(ids)})
                listeners = heard_by(channel)
        except Exception as error:
            logger.debug("the workers cannot be asked: %s", error)
            return None
        self._serves |= {node: frozenset(one["name"] for one in queues or ()) for node, queues in served}
        held = frozenset(task_id for _, found in replies for task_id in found)
        return Told(held, frozenset(node for node, _ in replies), len(replies), listeners)


def _called(mailbox: Any, channel: Any, command: str, arguments: dict[str, Any]) -> list[tuple[str, Any]]:
    """The replies, each with its node."""
    replies = mailbox.multi_call(command, arguments, timeout=REPLY_SECONDS, channel=channel)
    return [one for reply in replies for one in reply.items()]
