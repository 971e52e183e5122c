"""A bundle: one message for several runs of a flow. Each is a task of its own to Celery, with its signals, its result
and its line in the log; the process takes one after the other, and what it does not come to goes on by itself."""

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol, cast

from celery import Celery
from celery.app.task import Task
from celery.app.trace import trace_task

from celeryflows.celery_bridge.bundling import BUNDLED, TASK
from celeryflows.celery_bridge.dispatcher import HEADER, NO_ARGUMENTS, CeleryDispatcher
from celeryflows.celery_bridge.flow_request import FlowRequest
from celeryflows.celery_bridge.postman import Patience
from celeryflows.engine.bundled_runs import BundledRuns
from celeryflows.engine.runtime import Runtime
from celeryflows.model.runs import Delivery, carrier_id

# In the request of a bundle whose runs are to have messages of their own.
APART = "flows_apart"
# An unknown flow's runs are sent again after so many microseconds, perhaps to a worker that knows it.
LATER = 5_000_000
PATIENCE = Patience(one=0.025, all=0.2)
# What the request of a run has of its bundle's.
_SHARED = ("delivery_info", "hostname", "timelimit", "lang", "origin", "reply_to")


class Host(Protocol):
    """What a bundle needs of its app's binding."""

    app: Celery

    @property
    def runtime(self) -> Runtime: ...
    def stopping(self) -> bool: ...


class BundleRequest(FlowRequest):
    """A bundle inside a worker. Who watches the worker's tasks is told of each run, by a message of its own; and what
    an earlier try left is nobody's to guess."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.received = time.monotonic()
        if self.delivery_info.get("redelivered") or (self._eventer is not None and self._eventer.enabled):
            self._request_dict[APART] = True


def make_task(host: Host) -> None:
    """Register the task that takes bundles."""

    def run(self: Any, flow: str, ids: Sequence[str], ignored: bool) -> None:
        task = host.app.tasks.get(flow)
        if getattr(task, "is_flow", False):
            _take(host, self.request, task, [Delivery(id, flow, alone=True) for id in ids], ignored)
        else:
            _give_back(host, ids)

    options = {"acks_late": True, "reject_on_worker_lost": True, "ignore_result": True, "rate_limit": None}
    request = f"{__name__}:{BundleRequest.__name__}"
    host.app.task(name=TASK, base=Task, bind=True, shared=False, Request=request, **options)(run)


def _take(host: Host, bundle: Any, task: Any, runs: Sequence[Delivery], ignored: bool) -> None:
    shared = {key: getattr(bundle, key) for key in _SHARED}
    shared |= {"task": task.name, HEADER: 1, "ignore_result": ignored, "is_eager": False, **NO_ARGUMENTS}
    messages = partial(cast(CeleryDispatcher, host.runtime.dispatcher).behind, PATIENCE)
    bundled = BundledRuns(host.runtime, carrier_id(bundle.id, os.getpid()), runs, messages)
    shared[BUNDLED] = bundled
    try:
        for one in runs:
            if getattr(bundle, APART, False) or host.stopping() or not bundled.begin():
                return
            own = {"id": one.run_id, "root_id": one.run_id, "correlation_id": one.run_id}
            trace_task(task, one.run_id, (), {}, {**shared, **own}, app=host.app)
    finally:
        bundled.release()


def _give_back(host: Host, ids: Sequence[str]) -> None:
    """A newer flow's, in an older worker."""
    with host.runtime.store.connection() as connection:
        for id in ids:
            connection.repeat(partial(connection.messages.unknown_task, id, LATER))
