"""A store that stays away for longer than its patience ends a turn, whatever its handler catches; the run goes on."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Reject

from celeryflows.celery_bridge.flow_task import _adopt
from celeryflows.clock import TurnedClock
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starting import call_event
from celeryflows.engine.turn import take_turn
from celeryflows.errors import StoreUnavailable
from celeryflows.model.events import Event
from celeryflows.model.runs import Status
from celeryflows.store.upgrade import upgrade
from tests.store.lossy import LossyStore
from tests.store.making import FLOW, a_runtime, outcome, put_run

NOW = 1_700_000_000_000_000


@pytest.fixture
def lossy(migrated_sqlite: str) -> Iterator[LossyStore]:
    store = LossyStore(migrated_sqlite, TurnedClock(NOW))
    store.patience = -1.0
    upgrade(store)
    yield store
    store.dispose()


def run_step(ctx: Any) -> None:
    ctx.step.run("a", lambda: 1)


def send_event(ctx: Any) -> None:
    ctx.step.send_event("a", Event("shop/told"))


def invoke(ctx: Any) -> None:
    ctx.step.invoke("a", "leaf")


def transact(ctx: Any) -> None:
    ctx.step.transaction("a", lambda connection: 1)


def both(ctx: Any) -> None:
    ctx.group.parallel([lambda: ctx.step.run("a", lambda: 1), lambda: ctx.step.run("b", lambda: 2)])


@pytest.mark.parametrize("tool", [run_step, send_event, invoke, transact, both])
def test_an_outage_within_a_tool_is_no_error_of_the_handler(lossy: LossyStore, tool: Callable[[Any], None]) -> None:
    caught: list[BaseException] = []
    is_away = [True]

    def handler(ctx: Any) -> str:
        if is_away[0]:
            break_link_for_good(lossy)
        try:
            tool(ctx)
        except Exception as error:
            caught.append(error)
        return "done"

    runtime = a_runtime(lossy, {FLOW: handler, "leaf": lambda ctx: 1})
    run_id = put_run(lossy)
    with pytest.raises(StoreUnavailable):
        take_turn(runtime, run_id)
    is_away[0] = False
    mend_link(lossy)
    assert caught == []
    with lossy.connection() as connection:
        (held,) = connection.runs.of_worker(runtime.worker)
        assert connection.runs.requeue(held)
    finish(runtime, run_id)
    assert outcome(lossy, run_id).status == Status.COMPLETED
    assert caught == []


@pytest.mark.parametrize(("acks_late", "end"), [(True, Reject), (False, StoreUnavailable)])
def test_a_foreign_call_goes_back_to_its_queue_or_fails_aloud(
    lossy: LossyStore, acks_late: bool, end: type[Exception]
) -> None:
    app = Celery("shop", broker="memory://", set_as_current=False)
    task = app.task(name=FLOW, acks_late=acks_late)(run_step)
    task.push_request(id="call", delivery_info={})
    runtime = a_runtime(lossy, {FLOW: lambda ctx: 1})
    break_link_for_good(lossy)
    with pytest.raises(end):
        _adopt(runtime, task, call_event((), {}))
    mend_link(lossy)


def break_link_for_good(lossy: LossyStore) -> None:
    lossy.break_link("statement", 0)
    lossy.again_every = 1


def mend_link(lossy: LossyStore) -> None:
    lossy.again_every = 0
    lossy.break_link("after", -1)


def finish(runtime: Runtime, run_id: str) -> None:
    take_turn(runtime, run_id)
    while runtime.dispatcher.waiting:
        one = runtime.dispatcher.waiting.popleft()
        take_turn(runtime, one.run_id, branch=one.branch)
