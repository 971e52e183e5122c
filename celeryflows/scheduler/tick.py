"""One worker's share of time: its heartbeat, its own lost children, and, when it leads, everybody's timers."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from celeryflows.durations import SECOND
from celeryflows.engine.hearing import tell_missed
from celeryflows.engine.registrar import register_worker
from celeryflows.engine.resume import end_overdue, expire_unstarted, pay_debts, requeue
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import StoreError
from celeryflows.model.runs import Delivery
from celeryflows.scheduler.doorkeeper import Doorkeeper, audit, fill_changed, prune, rejoin_unclaimed
from celeryflows.scheduler.figures import Counter
from celeryflows.scheduler.retention import Pruner
from celeryflows.scheduler.sight import Sight
from celeryflows.scheduler.sweeper import Broker, adopt_orphans, forget_old, resend_lost, route_left
from celeryflows.scheduler.task_watch import TaskWatch
from celeryflows.scheduler.timers import EVERY, MARGIN, Timers
from celeryflows.store.connection import Connection, TransientError
from celeryflows.store.runs import Held
from celeryflows.store.workers import WorkerRow

logger = logging.getLogger("celeryflows")

TICK = 0.05
SWEEP_EVERY = 1.0
RENEW_EVERY = 3.0
RELEASE_EVERY = 10.0
FORGET_EVERY = 60.0
PRUNE_EVERY = 5.0
AUDIT_EVERY = 5.0
FIGURES_EVERY = 5.0
BATCHES_A_TICK = 20
BATCHES_SECONDS = 1.0


@dataclass(slots=True)
class Every:
    """Something to do each so many seconds of the monotonic clock."""

    seconds: float
    last: float = float("-inf")

    def is_due(self, now: float) -> bool:
        """True, and marked as done, when the time has come."""
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


def nobody() -> frozenset[str]:
    """A process that runs no Celery requests."""
    return frozenset()


@dataclass(slots=True)
class Scheduler:
    """Called often by a worker's own thread; does what is due and keeps each piece of work short.

    `active` gives the ids of what this worker's pool is running. `gate` is held around each piece: a fork must not
    happen inside database, broker or logging work.
    """

    runtime: Runtime
    broker: Broker
    row: WorkerRow
    active: Callable[[], frozenset[str]] = nobody
    gate: contextlib.AbstractContextManager[Any] = field(default_factory=contextlib.nullcontext)
    leads: bool = False
    _kills_expected: bool = False
    _missing: dict[str, Held] = field(default_factory=dict)
    _sight: Sight = field(init=False)
    _beat: Every = field(default_factory=lambda: Every(0))
    _children: Every = field(default_factory=lambda: Every(SWEEP_EVERY))
    _lead: Every = field(default_factory=lambda: Every(SWEEP_EVERY))
    _renew: Every = field(default_factory=lambda: Every(RENEW_EVERY))
    _sweep: Every = field(default_factory=lambda: Every(SWEEP_EVERY))
    _left: Every = field(default_factory=lambda: Every(EVERY))
    _release: Every = field(default_factory=lambda: Every(RELEASE_EVERY))
    _forget: Every = field(default_factory=lambda: Every(FORGET_EVERY))
    _prune: Every = field(default_factory=lambda: Every(PRUNE_EVERY))
    _audit: Every = field(default_factory=lambda: Every(AUDIT_EVERY))
    _figures: Every = field(default_factory=lambda: Every(FIGURES_EVERY))
    _counter: Counter = field(default_factory=Counter)
    _pruner: Pruner | None = None
    _door: Doorkeeper = field(default_factory=Doorkeeper)
    _timers: Timers = field(default_factory=Timers)
    _tasks: TaskWatch | None = None

    def __post_init__(self) -> None:
        settings = self.runtime.settings
        # Whoever was held up for so long with this worker looks dead when all go on.
        self._sight = Sight(settings.dead_after / SECOND, gap=(settings.dead_after - settings.beat_every) / SECOND)

    def start(self) -> None:
        """Enter this worker and its flows."""
        with self.gate, self.runtime.store.connection() as connection:
            connection.workers.start(self.row)
        with self.gate:
            register_worker(self.runtime)
        self._beat.seconds = self.runtime.settings.beat_every / SECOND

    def tick(self) -> None:
        """Do what is due. An outage of the store is survived and logged once."""
        now = self.runtime.clock.monotonic()
        self._sight.look(now)
        try:
            self._keep_alive(now)
            if self._lead_due(now):
                self._take_lead(now)
            if self.leads:
                self._lead_all(now)
        except TransientError as error:
            # The store is there: what met a conflict is done at the next tick.
            logger.info("the scheduler met a conflict: %s", error)
        except StoreError as error:
            if self._sight.lose():
                logger.warning("the scheduler lost the store and tries on: %s", error)
            self.leads = False
            self._missing.clear()
        else:
            self._sight.seen()

    def pause(self) -> float:
        """Seconds until the next tick: until something is due, where this worker leads, but not long."""
        left = self._timers.wait(self.runtime.clock.monotonic()) if self.leads else TICK
        return min(TICK, max(MARGIN, left))

    def beat(self) -> None:
        """Only the heartbeat: for a worker that drains."""
        now = self.runtime.clock.monotonic()
        with contextlib.suppress(StoreError):
            self._keep_alive(now)

    def expect_kills(self) -> None:
        """The pool's processes are killed on purpose from now on: `stop` hands back what they leave, as no loss."""
        self._kills_expected = True

    def stop(self) -> None:
        """Leave at once: hand back what a cold shutdown cut off, give up the lease and the row.

        A store that is busy or away is asked again for as long as its patience lasts; then recovery does the rest.
        """
        left: list[Delivery] = []
        try:
            with self.gate, self.runtime.store.connection() as connection:
                self._leave(connection, left)
        except StoreError as error:
            logger.warning("what this worker was at is left to recovery: %s", error)
        if left:
            with self.gate:
                self.runtime.dispatcher.send_runs(left)

    def _leave(self, connection: Connection, left: list[Delivery]) -> None:
        worker = self.runtime.worker
        left += connection.repeat(lambda: connection.runs.leave(worker))
        left += connection.repeat(lambda: connection.branches.leave(worker))
        connection.repeat(lambda: connection.workers.resign(worker))
        connection.repeat(lambda: connection.workers.stop(worker))

    def _keep_alive(self, now: float) -> None:
        if self._beat.is_due(now):
            with self.gate, self.runtime.store.connection() as connection:
                if not connection.workers.beat(self.runtime.worker):
                    connection.workers.start(self.row)
        if not self._kills_expected and self._children.is_due(now):
            with self.gate:
                self._look_for_lost_children()
        if self._release.is_due(now):
            with self.gate:
                register_worker(self.runtime)

    def _look_for_lost_children(self) -> None:
        """What the store says we run and our pool does not, in two looks a second apart, died with its child."""
        with self.runtime.store.connection() as connection:
            worker = self.runtime.worker
            running = connection.runs.of_worker(worker) + connection.branches.of_worker(worker)
            running += connection.gate_audit.at_work(worker)
        active = self.active()
        missing = {f"{held.id}:{held.path}:{held.turn}": held for held in running if held.carrying_id not in active}
        for key in missing.keys() & self._missing.keys():
            if requeue(self.runtime, missing[key]):
                logger.warning("run %s lost its process and is queued again", missing[key].id)
        self._missing = missing

    def _lead_due(self, now: float) -> bool:
        return self._renew.is_due(now) if self.leads else self._lead.is_due(now)

    def _take_lead(self, now: float) -> None:
        with self.gate, self.runtime.store.connection() as connection:
            led, self.leads = (
                self.leads,
                connection.workers.lead(self.runtime.worker, self.runtime.settings.leader_lease),
            )
        if self.leads and not led:
            logger.info("worker %s leads: timers, crons and recovery are its own now", self.runtime.worker)
            self._renew.last = now

    def _lead_all(self, now: float) -> None:
        if not self._timers.wait(now):
            self._timers.look(self.runtime, self._batches, self.gate)
        if self._left.is_due(now):
            self._batches(route_left)
            self._batches(pay_debts)
        if self._sweep.is_due(now):
            self._batches(expire_unstarted)
            self._batches(end_overdue)
            self._piece(tell_missed)
            self._piece(self._door.let_in)
            self._batches(fill_changed)
            self._piece(lambda runtime: resend_lost(runtime, self.broker))
            self._look_after_tasks()
            if self._sees_long():
                self._piece(adopt_orphans)
        if self._audit.is_due(now) and self._sees_long():
            self._piece(audit)
            self._piece(lambda runtime: rejoin_unclaimed(runtime, self.broker))
        if self._forget.is_due(now):
            with self.gate:
                forget_old(self.runtime)
                prune(self.runtime)
                self._counter.forget(self.runtime)
        if self._figures.is_due(now):
            self._batches(self._counter.piece)
            self._piece(self._counter.sample)
        if self._prune.is_due(now):
            self._pruner = self._pruner or Pruner(self.runtime)
            self._batches(self._pruner.piece)

    def _look_after_tasks(self) -> None:
        self._tasks = self._tasks or TaskWatch(self.runtime, self.broker, self.gate)
        with self.gate:
            self._tasks.start()

    def _sees_long(self) -> bool:
        return self._sight.is_long(self.runtime.clock.monotonic())

    def _batches(self, work: Callable[[Runtime], int]) -> None:
        """A batch a piece, until nothing is due; bounded in number and time, so that the heartbeat gets its turn."""
        until = self.runtime.clock.monotonic() + BATCHES_SECONDS
        for _ in range(BATCHES_A_TICK):
            if self._piece(work) < 1 or self.runtime.clock.monotonic() > until:
                return

    def _piece(self, work: Callable[[Runtime], int]) -> int:
        with self.gate:
            return work(self.runtime)
