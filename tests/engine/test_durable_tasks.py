"""Durable and limited tasks in the test kit: what Celery's own words mean in a run."""

from datetime import UTC, timedelta

import pytest
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject

from celeryflows import (
    Batch,
    Concurrency,
    Debounce,
    Event,
    NonRetriableError,
    Priority,
    RetryAfterError,
    Singleton,
    Status,
    Timeouts,
)


@pytest.fixture
def task(app, flows):
    """Declare a task of this app alone."""
    return lambda fn, **options: app.task(shared=False, name=f"tests.{fn.__name__}", **options)(fn)


def durable(task, fn, **options):
    return task(fn, bind=True, durable=True, **options)


def started(task, flows_tester, fn, **options):
    return flows_tester.start(durable(task, fn, **options))


@pytest.fixture
def told():
    return []


def test_steps_sleeps_and_the_call_belong_to_the_run(task, flows_tester, told):
    def process(self, order, *, gift=False):
        charge = self.step.run("charge", lambda: told.append(order) or order * 10)
        self.step.sleep("settle", "1h")
        assert self.ctx.event.data == {"order": order}
        return [charge, self.request.id == self.ctx.run_id, self.request.args, self.request.kwargs]

    process = durable(task, process)
    run = flows_tester.start(process, order=7)
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1h")
    assert run.output == [70, True, [], {"order": 7}]
    assert told == [7]


def test_retry_keeps_countdown_and_memos_and_ends_with_the_error_it_was_given(task, flows_tester, told):
    def process(self):
        self.step.run("once", lambda: told.append("step"))
        told.append(self.request.retries)
        raise self.retry(exc=ValueError("no luck"), countdown=60)

    process = durable(task, process, max_retries=2)
    run = flows_tester.start(process)
    for _ in range(2):
        assert run.status == Status.SUSPENDED
        flows_tester.advance("59s")
        assert run.status == Status.SUSPENDED
        flows_tester.advance("1s")
    assert (run.status, run.error.name) == (Status.FAILED, "ValueError")
    assert told == ["step", 0, 1, 2]


@pytest.mark.parametrize(
    ("asked", "after"), [({}, "5s"), ({"eta": "later"}, "2h"), ({"countdown": 0}, "0s"), ({"throw": False}, "5s")]
)
def test_when_a_retry_comes_is_as_celery_says(task, flows_tester, asked, after):
    def process(self):
        if self.request.retries:
            return "done"
        when = {"eta": flows_tester.now.astimezone(UTC) + timedelta(hours=2)} if "eta" in asked else asked
        self.retry(**when)
        return "the body went on, and is called again all the same"

    process = durable(task, process, default_retry_delay=5)
    run = flows_tester.start(process)
    flows_tester.advance(after)
    assert run.output == "done"


def test_without_an_error_of_its_own_a_spent_retry_is_celerys(task, flows_tester):
    def process(self):
        self.retry(countdown=0, max_retries=0)

    run = started(task, flows_tester, process)
    assert (run.status, run.error.name) == (Status.FAILED, MaxRetriesExceededError.__name__)


def test_autoretry_goes_through_the_store_but_for_what_cannot_help(task, flows_tester, told):
    def failing(self):
        told.append(self.request.retries)
        raise ConnectionError

    def final(self):
        told.append("final")
        raise NonRetriableError("never")

    def spent(self):
        self.step.using(retries=0).run("bad", lambda: 1 / 0)

    options = {"autoretry_for": (Exception,), "max_retries": 2, "default_retry_delay": 1}
    failing, final, spent = (durable(task, fn, **options) for fn in (failing, final, spent))
    run = flows_tester.start(failing)
    flows_tester.advance("10s")
    assert (run.error.name, told) == ("ConnectionError", [0, 1, 2])
    assert flows_tester.start(final).error.name == "NonRetriableError"
    assert flows_tester.start(spent).error.name == "ZeroDivisionError"
    assert told == [0, 1, 2, "final"]


def test_autoretry_of_base_exceptions_swallows_no_sleep(task, flows_tester):
    def process(self):
        self.step.sleep("long", "1h")
        return "slept"

    process = durable(task, process, autoretry_for=(BaseException,))
    run = flows_tester.start(process)
    flows_tester.advance("1h")
    assert run.output == "slept"


def test_our_own_retry_error_waits_as_it_asks_within_max_retries(task, flows_tester, told):
    def process(self):
        told.append(self.request.retries)
        raise RetryAfterError("busy", "2m")

    process = durable(task, process, max_retries=1)
    run = flows_tester.start(process)
    flows_tester.advance("2m")
    assert (run.status, told) == (Status.FAILED, [0, 1])


def test_an_error_that_nobody_retries_fails_the_run_at_once_as_in_celery(task, flows_tester, told):
    def process(self):
        told.append(1)
        raise ValueError("no")

    run = started(task, flows_tester, process)
    assert (run.status, run.error.name, told) == (Status.FAILED, "ValueError", [1])


@pytest.mark.parametrize("end", [Ignore("enough"), Reject("bad message"), Reject("bad message", requeue=True)])
def test_ignore_and_reject_end_the_run_as_cancelled(task, flows_tester, end):
    def process(self):
        self.step.run("first", lambda: 1)
        raise end

    run = started(task, flows_tester, process)
    assert run.status == Status.CANCELLED
    assert type(end).__name__ in run.reason
    assert "enough" in run.reason or "bad message" in run.reason


@pytest.mark.parametrize(
    ("act", "refused"),
    [
        (lambda self: self.replace(self.s()), "self.replace"),
        (lambda self: self.retry(args=("other",)), "its arguments"),
        (lambda self: self.retry(kwargs={"order": 2}), "its arguments"),
        (lambda self: self.retry(queue="slow"), "queue"),
    ],
)
def test_what_a_run_cannot_have_is_refused_by_name(task, flows_tester, act, refused):
    def process(self, order=1):
        act(self)

    run = started(task, flows_tester, process)
    assert run.status == Status.FAILED
    assert refused in run.error.message


def test_retry_with_the_same_arguments_however_written_is_a_retry(task, flows_tester):
    def process(self, order, note=None):
        if not self.request.retries:
            self.retry(args=(order,), kwargs={"note": note}, countdown=0)
        return "done"

    process = durable(task, process)
    run = flows_tester.start(process, order=3)
    flows_tester.advance("0s")
    assert run.output == "done"


def test_step_and_ctx_are_there_in_a_run_alone(task, flows_tester):
    def process(self):
        return self.step.run("one", lambda: 1)

    process = durable(task, process)
    with pytest.raises(TypeError, match=r"self\.step.*delay"):
        process()
    assert process.__wrapped__ is not None


def test_a_task_that_calls_itself_in_place_goes_on_in_the_same_turn(task, flows_tester):
    def process(self, order):
        return order if order == 0 else 1 + self.run(order - 1)

    process = durable(task, process)
    assert flows_tester.start(process, order=3).output == 3


def test_a_durable_task_has_all_calls_of_a_batch(task, flows, flows_tester):
    def process(self, order):
        return [one.data["order"] for one in self.ctx.events]

    process = durable(task, process, batch=Batch(3, "1m"))
    ids = {process.delay(n).id for n in range(3)}
    flows_tester.advance("0s")
    assert len(ids) == 1
    assert flows.run(ids.pop()).output == [0, 1, 2]


def test_the_newest_call_wins_a_debounce_and_all_callers_hold_its_run(task, flows_tester, told):
    def index(page, text):
        told.append((page, text))

    index = task(index, debounce=Debounce("10s", key="kwargs.page"))
    ids = {index.delay(1, "old").id, index.delay(text="new", page=1).id}
    other = index.delay(2, "other").id
    flows_tester.advance("10s")
    assert (len(ids), other in ids) == (1, False)
    assert sorted(told) == [(1, "new"), (2, "other")]


def test_limits_of_a_task_hold_for_its_triggers_too(task, flows, flows_tester, told):
    def sync(account, urgent=0):
        told.append((account, urgent))

    sync = task(
        sync,
        singleton=Singleton("skip", key="kwargs.account"),
        priority=Priority("kwargs.urgent * 60"),
        timeouts=Timeouts(start="1h"),
        concurrency=Concurrency(1, key="kwargs.account"),
    )
    flows.on("account/changed", sync, kwargs="{'account': event.data.id}")
    sync.delay("a1", urgent=2)
    flows_tester.send([Event("account/changed", {"id": "a1"}), Event("account/changed", {"id": "a2"})])
    assert sorted(told) == [("a1", 2), ("a2", 0)]
    assert [run.status for run in flows.runs(flow="tests.sync", status="skipped")] == [Status.SKIPPED]


def test_eager_calls_run_in_place(app, task):
    app.conf.task_always_eager = True

    def process(self, order):
        self.step.sleep("long", "1 day")
        return self.step.run("one", lambda: order + self.request.retries)

    def sync(account):
        return account

    process, sync = durable(task, process), task(sync, concurrency=1)
    assert process.delay(4).get() == 4
    assert sync.delay("a").get() == "a"
    assert process.apply((5,)).get() == 5
