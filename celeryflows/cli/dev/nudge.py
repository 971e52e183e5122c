"""Runs that other processes started while they could not reach the session's broker: their messages are sent here."""

from celery import Celery

from celeryflows.celery_bridge.broker import CeleryBroker
from celeryflows.durations import SECOND
from celeryflows.engine.runtime import Runtime

UNCLAIMED_FOR = SECOND // 2


class Nudge:
    """Sends what nobody has taken for half a second and the broker does not have; workers would after five."""

    def __init__(self, app: Celery, runtime: Runtime) -> None:
        self._runtime = runtime
        self._broker = CeleryBroker(app, runtime.app)

    def send_left(self) -> None:
        """Send them. Raises StoreUnavailable."""
        with self._runtime.store.connection() as connection:
            late = connection.messages.unclaimed(UNCLAIMED_FOR)
            left = [
                one.delivery
                for one in late
                if self._broker.length(self._broker.queue_of(one.delivery)) == 0
                and connection.messages.resend(one.delivery.run_id, one.sent_at)
            ]
        if left:
            self._runtime.dispatcher.send_runs(left)

    def close(self) -> None:
        """Drop the connection."""
        self._broker.close()
