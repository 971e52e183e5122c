"""What racing leaders do about messages: each sends again what it takes for lost, while workers claim."""

from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from celeryflows.engine.turn import take_turn
from celeryflows.model.runs import Delivery
from celeryflows.scheduler.sweeper import resend_lost
from celeryflows.store import messages
from tests.store.making import FLOW, a_runtime
from tests.store.team import Racer


class EmptyBroker:
    """Has lost every message; its epoch is another each time that it is told."""

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch

    def epoch(self) -> str:
        """A word that changes when all is lost."""
        return self._epoch

    def queue_of(self, delivery: Delivery) -> str:
        """One queue for all."""
        return "celery"

    def length(self, queue: str) -> int:
        """Nothing is in it."""
        return 0


def send_again(racer: Racer, url: str, epochs: list[str], sound: bool) -> tuple[list[str], int]:
    """All but number 0 are leaders who look at each epoch's broker at once; number 0 is a worker. The runs that each
    sent again, and how many turns it took."""
    sent: list[str] = []
    turns = 0
    with racer.store(url, "flows_runs", "COMMIT", most=0.004) as store, ExitStack() as stack:
        if not sound:
            stack.enter_context(patch.object(messages.Messages, "resend", _blindly))
            stack.enter_context(patch.object(messages.Messages, "resend_all", lambda *_: []))
        runtime = a_runtime(store, {FLOW: lambda ctx: ctx.step.run("work", int)})
        for epoch in epochs:
            racer.meet()
            if racer.number:
                resend_lost(runtime, EmptyBroker(epoch))
                sent += [one.run_id for one in runtime.dispatcher.waiting]  # type: ignore[attr-defined]
                runtime.dispatcher.waiting.clear()  # type: ignore[attr-defined]
            else:
                with store.connection() as connection:
                    queued = connection.execute("SELECT id FROM flows_runs WHERE status = 'queued' LIMIT 5")
                turns += sum(take_turn(runtime, row[0]).status is not None for row in queued)
    return sent, turns


def _blindly(self: Any, run_id: str, sent_at: int, branch: str = "") -> bool:
    self._execute("UPDATE flows_runs SET sent_at = {now}, sends = sends + 1 WHERE id = :id", id=run_id)
    return True
