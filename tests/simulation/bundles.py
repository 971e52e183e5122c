"""Several runs by one message: how a worker takes them, one after the other."""

from dataclasses import replace
from typing import Any, Protocol

from celeryflows.engine.bundled_runs import BundledRuns
from celeryflows.engine.runtime import LetGo, Postponed, Runtime
from celeryflows.errors import StoreUnavailable
from celeryflows.model.runs import Delivery
from tests.simulation.activity import Activity
from tests.simulation.ledger import Ledger
from tests.simulation.messages import Bundle

# What Celery does behind a run takes its time, here and there.
SLOW = 4


class Host(Protocol):
    """The process that takes it."""

    runtime: Runtime
    ledger: Ledger

    def behind(self, let_go: LetGo) -> Postponed: ...
    def dawdle(self) -> None: ...
    def touch(self, point: str) -> None: ...
    def take_turn(self, message: Delivery, mine: Activity, bundled: BundledRuns) -> None: ...


def take_bundle(host: Host, bundle: Bundle, carrier: str, mine: Activity) -> None:
    """As the task of bundles does."""
    runs = [replace(one, alone=True) for one in bundle.runs]
    bundled = BundledRuns(host.runtime, carrier, runs, host.behind)
    try:
        for place, one in enumerate(runs):
            mine.run = one.run_id
            host.touch("next of a bundle")
            if bundle.redelivered or mine.must_yield() or not bundled.begin():
                return
            try:
                host.take_turn(one, mine, bundled)
            except StoreUnavailable:
                # What it leaves is for recovery; the others go on.
                host.ledger.disturbed[one.run_id] += 1
            if (int(bundle.id) + place) % SLOW == SLOW - 1:
                host.dawdle()
            host.touch("behind a run of a bundle")
    finally:
        bundled.release()


def carried_by(connection: Any, carrier: str, worker: str) -> list[str]:
    """Runs that a bundle has claimed and not ended."""
    sql = "SELECT id FROM flows_runs WHERE carrier = :carrier AND worker = :worker AND status = 'running'"
    return [row[0] for row in connection.execute(sql, carrier=carrier, worker=worker)]
