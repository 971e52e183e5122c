"""The worker's own part: checks before it starts, and the scheduler thread beside its pool."""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any, Protocol

from celery import Celery, bootsteps, signals
from celery.worker import state

from celeryflows.celery_bridge.broker import CeleryBroker
from celeryflows.celery_bridge.bundling import TASK
from celeryflows.celery_bridge.dispatcher import HEADER
from celeryflows.celery_bridge.fork_gate import GATE
from celeryflows.celery_bridge.held_bundles import HeldBundles
from celeryflows.celery_bridge.revoking import RevokedRuns, cancel_revoked
from celeryflows.celery_bridge.task_runs import TaskRuns
from celeryflows.engine.registrar import release_of
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import FlowsError
from celeryflows.ids import new_id
from celeryflows.model.runs import carrier_id
from celeryflows.scheduler.tick import TICK, Scheduler
from celeryflows.store.workers import WorkerRow

logger = logging.getLogger("celeryflows")


class Host(Protocol):
    """What the worker asks of its app's binding."""

    app: Celery
    tasks: TaskRuns

    @property
    def runtime(self) -> Runtime: ...
    def stop(self) -> None: ...
    def restart(self) -> None: ...
    def cancel(self, run_id: str, reason: str) -> bool: ...


class FlowsStep(bootsteps.StartStopStep):
    """Starts after the pool has forked; at shutdown it claims nothing new and beats until the last task has ended."""

    requires = {"celery.worker.components:Pool"}  # noqa: RUF012 - Celery's own form

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.host: Host = worker.app.flows_binding
        self.thread: SchedulerThread | None = None
        self.host.restart()
        self._soften(worker)
        try:
            runtime = self.host.runtime
            # New at each start: what an earlier process of this name left is nobody's.
            runtime.worker = new_id()
            self.broker = CeleryBroker(worker.app, runtime.app)
            with runtime.store.connection() as connection:
                identity = connection.flows.fact("identity") or ""
                connection.flows.check_keys()
            self.broker.check_store(identity, runtime.store.shown_url())
        except FlowsError as error:
            raise SystemExit(f"celeryflows: {error}") from error
        # The pool forks next: no connection of ours may be open then.
        self.broker.close()
        runtime.store.dispose()

    def start(self, worker: Any) -> None:
        """Start the thread."""
        if not self.host.runtime.flows:
            logger.info("this app declares no flows; the scheduler still serves those of others")
        scheduler = Scheduler(self.host.runtime, self.broker, _row(self.host, worker), _active, GATE)
        self.thread = SchedulerThread(scheduler, RevokedRuns(self.host), HeldBundles(self.host))
        self.thread.start()
        signals.worker_shutdown.connect(self._after_drain, weak=False)

    def stop(self, worker: Any) -> None:
        """The worker drains: turns stop at their next boundary."""
        self.host.stop()
        if self.thread is not None:
            self.thread.draining = True

    def terminate(self, worker: Any) -> None:
        """A cold shutdown, of whose end Celery tells nobody: what the pool was killed over is handed back."""
        self.stop(worker)
        if self.thread is not None:
            self.thread.scheduler.expect_kills()
            self.thread.leave()

    def _soften(self, worker: Any) -> None:
        """Celery's soft shutdown waits before it tells anybody: turns are to stop at a boundary meanwhile. Right after
        it, still before `terminate`, the pool's processes are killed."""
        wait = worker.wait_for_soft_shutdown

        def stop_and_wait() -> None:
            self.host.stop()
            if self.thread is not None:
                self.thread.scheduler.expect_kills()
            wait()

        worker.wait_for_soft_shutdown = stop_and_wait

    def _after_drain(self, **_: Any) -> None:
        signals.worker_shutdown.disconnect(self._after_drain)
        if self.thread is not None:
            self.thread.leave()


class SchedulerThread(threading.Thread):
    """Calls the scheduler until the worker has left."""

    def __init__(self, scheduler: Scheduler, revoked: RevokedRuns, held: HeldBundles) -> None:
        super().__init__(name="celeryflows-scheduler", daemon=True)
        self.scheduler = scheduler
        self.revoked = revoked
        self.held = held
        self.draining = False
        self._left = threading.Event()

    def run(self) -> None:
        """Tick; a tick that fails is logged, and the next one tries again."""
        started = False
        while not self._left.is_set():
            try:
                if not started:
                    self.scheduler.start()
                    started = True
                if self.draining:
                    self.scheduler.beat()
                else:
                    self.scheduler.tick()
                    self.revoked.look()
                self.held.look()
            except Exception:
                logger.exception("the scheduler's tick failed; it tries on")
                self._left.wait(1.0)
            self._left.wait(TICK if self.draining else self.scheduler.pause())

    def leave(self) -> None:
        """End the thread, then give up lease and row."""
        self._left.set()
        self.join(timeout=5)
        self.scheduler.stop()


def _active() -> frozenset[str]:
    """What the pool is running now."""
    for _ in range(20):
        try:
            return _carriers(state.active_requests)
        except RuntimeError:
            # The set changed while we read it.
            time.sleep(0)
    return _carriers(tuple(state.active_requests))


def _carriers(active: Iterable[Any]) -> frozenset[str]:
    """Each request by its own name, and as what it is where it carries several runs."""
    alive = [one for one in active if not _has_ended(one.worker_pid)]
    return frozenset(one.id for one in alive) | {
        carrier_id(one.id, one.worker_pid) for one in alive if one.name == TASK
    }


def _has_ended(pid: int | None) -> bool:
    """True for a pool's process that died: the pool itself may take five seconds to notice."""
    if pid is None or pid == os.getpid() or not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        # The pool has reaped it.
        return True


def _row(host: Host, worker: Any) -> WorkerRow:
    runtime = host.runtime
    pool = getattr(worker.pool_cls, "__module__", "")
    return WorkerRow(
        id=runtime.worker,
        app=runtime.app,
        release=release_of([flow.definition for flow in runtime.flows.values()]),
        host=str(getattr(worker, "hostname", None) or socket.gethostname()),
        pid=os.getpid(),
        pool=pool.rpartition(".")[2],
        queues=",".join(host.app.amqp.queues.consume_from),
    )


def install(host: Host) -> None:
    """Put the step into every worker of the app, and hear the signals that it needs."""
    host.app.flows_binding = host
    host.app.steps["worker"].add(FlowsStep)
    host.tasks.install()

    def shutting_down(**_: Any) -> None:
        host.stop()

    def revoked(sender: Any = None, request: Any = None, **_: Any) -> None:
        name = getattr(sender, "name", None)
        if (
            request is None
            or name not in host.runtime.flows.keys() | host.tasks.carriers
            or getattr(sender, "app", None) is not host.app
        ):
            return
        # Celery also calls revoked what it kills when the worker ends: that run goes on elsewhere.
        if request.id in state.revoked:
            cancel_revoked(host, request.id)

    def unknown(id: str | None = None, message: Any = None, **_: Any) -> None:
        """An old worker took a message of a newer flow and Celery drops it: it is sent again, to another."""
        header = (getattr(message, "headers", None) or {}).get(HEADER)
        if isinstance(header, list):
            _give_back(host, *header)
        elif id is not None:
            _give_back(host, id)

    signals.worker_shutting_down.connect(shutting_down, weak=False)
    signals.task_revoked.connect(revoked, weak=False)
    signals.task_unknown.connect(unknown, weak=False)


def _give_back(host: Host, run_id: str, branch: str = "") -> None:
    try:
        with GATE, host.runtime.store.connection() as connection:
            connection.messages.unknown_task(run_id, 5_000_000, branch)
    except FlowsError as error:
        logger.warning("a message of an unknown flow was not given back: %s", error)
