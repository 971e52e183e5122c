"""The sweeper: what crashes, restarts and lost messages left behind is put right. Each repair is a compare-and-set."""

import logging
from dataclasses import dataclass, field, replace
from typing import Protocol

from celeryflows.durations import MINUTE, SECOND
from celeryflows.engine.resume import requeue
from celeryflows.engine.routing import route_pieces, route_stored
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starting import start_stored
from celeryflows.errors import PayloadLocked
from celeryflows.model.runs import Delivery
from celeryflows.store.connection import Connection
from celeryflows.store.messages import Unclaimed

logger = logging.getLogger("celeryflows")

OUTBOX_AGE = SECOND // 4
RESEND_AGE = 5 * SECOND
OVERTAKEN_BY = 30 * SECOND
GIVE_UP_AGE = 10 * MINUTE
RESEND_BATCH = 500


class Broker(Protocol):
    """What the sweeper asks of the broker. An answer of None means: cannot tell."""

    def epoch(self) -> str | None:
        """A random word that the broker forgets when it loses everything."""
        ...

    def queue_of(self, delivery: Delivery) -> str:
        """The queue that the run's message goes to."""
        ...

    def length(self, queue: str) -> int | None:
        """Messages in the queue that no worker has taken."""
        ...

    def holds(self, queue: str, task_id: str, since: float) -> bool | None:
        """Whether the queue holds a message of this task, or one that answers it, at `since` or later."""
        ...


class NoBroker:
    """A process without a broker: nothing can be lost on the way."""

    def epoch(self) -> str | None:
        """Nothing to forget."""
        return None

    def queue_of(self, delivery: Delivery) -> str:
        """One queue for all."""
        return ""

    def length(self, queue: str) -> int | None:
        """Cannot tell."""
        return None

    def holds(self, queue: str, task_id: str, since: float) -> bool | None:
        """Cannot tell."""
        return None


def adopt_orphans(runtime: Runtime) -> int:
    """Queue again what silent or unknown workers were running, runs and branches; how many."""
    with runtime.store.connection() as connection:
        silence = runtime.settings.dead_after
        orphans = connection.runs.orphans(silence) + connection.branches.orphans(silence)
    return sum(requeue(runtime, held) for held in orphans)


def route_left(runtime: Runtime, older_than: int = OUTBOX_AGE) -> int:
    """Route what an outbox, a crash or a wide fan-out left unrouted, and start the calls; how many."""
    with runtime.store.connection() as connection:
        left = connection.events.unrouted(older_than)
        calls = connection.calls.left(older_than)
    locked = 0
    for run_id in calls:
        try:
            start_stored(runtime, run_id)
        except PayloadLocked as error:
            locked += 1
            logger.error("the call of run %s cannot be started here: %s", run_id, error)
    for event in left:
        try:
            if event.piece is None:
                route_stored(runtime, event.id)
            else:
                route_pieces(runtime, event.id, event.piece)
        except PayloadLocked as error:
            locked += 1
            logger.error("event %s cannot be routed here: %s", event.id, error)
    return len(left) + len(calls) - locked


def resend_lost(runtime: Runtime, broker: Broker) -> int:
    """Send again the messages that were lost, and only those: a long backlog must not multiply. How many."""
    epoch = broker.epoch()
    with runtime.store.connection() as connection:
        if epoch is not None and epoch != connection.flows.fact("broker_epoch"):
            _new_epoch(runtime, epoch)
        deliveries = connection.messages.resend_all(RESEND_BATCH) if epoch is not None else []
        late = connection.messages.unclaimed(RESEND_AGE)
        lost = Losses(broker, connection.messages.newest_claimed() if late else {})
        for one in late:
            if lost.is_lost(one) and connection.messages.resend(one.delivery.run_id, one.sent_at, one.delivery.branch):
                deliveries.append(one.delivery)
    if deliveries:
        logger.info("sending %d messages again that the broker does not have any more", len(deliveries))
        # Each by its own message: a worker of an older release takes no others.
        runtime.dispatcher.send_runs([replace(one, alone=True) for one in deliveries])
    return len(deliveries)


def _new_epoch(runtime: Runtime, epoch: str) -> None:
    """All that was sent before now is lost. Of leaders that find it at once the first says when that was."""

    def work(tx: Connection) -> None:
        if tx.flows.change_fact("broker_epoch", epoch):
            tx.flows.put_fact("broker_epoch_at", str(tx.now()))

    runtime.store.transact(work)


@dataclass(slots=True)
class Losses:
    """Tells a lost message from one that waits its turn. The broker is asked once for each queue, not for each run."""

    broker: Broker
    newest_claimed: dict[str, int]
    _lengths: dict[str, int | None] = field(default_factory=dict)
    _newest: dict[str, int] = field(default_factory=dict)

    def is_lost(self, one: Unclaimed) -> bool:
        """Overtaken, gone from an empty queue, or silent for very long; each try doubles the patience."""
        patience: int = 2 ** min(one.sends, 10)
        if one.age > GIVE_UP_AGE * patience:
            return True
        queue = self.broker.queue_of(one.delivery)
        if one.age > RESEND_AGE * patience and self._length(queue) == 0:
            return True
        return self._newest_in(queue) - one.sent_at > OVERTAKEN_BY * patience

    def _newest_in(self, queue: str) -> int:
        if queue not in self._newest:
            claimed = (at for flow, at in self.newest_claimed.items() if self._queue(flow) == queue)
            self._newest[queue] = max(claimed, default=0)
        return self._newest[queue]

    def _queue(self, flow: str) -> str:
        return self.broker.queue_of(Delivery("", flow))

    def _length(self, queue: str) -> int | None:
        if queue not in self._lengths:
            self._lengths[queue] = self.broker.length(queue)
        return self._lengths[queue]


def forget_old(runtime: Runtime) -> None:
    """Drop keys and workers whose time is over."""
    with runtime.store.connection() as connection:
        connection.once.prune()
        connection.workers.prune(10 * runtime.settings.dead_after)
        at: str | None = ""
        while at is not None:
            at = connection.meters.prune(at)
        at = ""
        while at is not None:
            at = _prune_singletons(connection, at)


def _prune_singletons(connection: Connection, at: str) -> str | None:
    return connection.transact(lambda tx: tx.singletons.prune(at))
