"""Promises of sends inside `atomic()` of the store's alias: committed and rolled back with it, delivered after it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import connection as default
from django.db import transaction
from django.db.utils import IntegrityError

from celeryflows import Concurrency, Event, InvalidEvent, SchemaMismatch, Singleton, Status, StoreError
from celeryflows.contrib.django.atomic import DjangoCallers
from celeryflows.engine.callers import is_held
from celeryflows.store.database import Store
from celeryflows.store.reports.health import unrouted
from tests.contrib.conftest import Project, add_alias, drop_alias
from tests.engine.orders import outputs, recovered


def atomic(**options: Any) -> Any:
    return transaction.atomic(using="shop", **options)


@contextmanager
def no_autocommit() -> Iterator[None]:
    """The project commits by hand."""
    transaction.set_autocommit(False, using="shop")
    yield
    transaction.set_autocommit(True, using="shop")


def calls(project: Project) -> int:
    return int(project.world.store_rows("SELECT count(*) FROM flows_calls")[0][0])


def test_what_is_sent_in_a_block_that_is_rolled_back_leaves_nothing(project: Project) -> None:
    with suppress(LookupError), atomic():
        project.order(1)
        project.flows.send("order/paid", {"n": 1})
        raise LookupError

    assert (project.orders(), project.world.events()) == ([], [])
    assert recovered(project.world) == 0


def test_what_is_sent_in_a_block_that_is_committed_starts_at_once_and_once(project: Project) -> None:
    with atomic():
        project.order(1)
        ids = project.flows.send([Event("order/paid", {"n": n}) for n in (1, 2)])
        assert len(project.world.broker.waiting) == 0

    assert [event.id for event in project.world.events()] == ids
    assert len(project.world.broker.waiting) == 2
    assert recovered(project.world) == 0
    assert outputs(project.world) == [1, 2]


def test_nobody_sees_it_before_the_commit(project: Project) -> None:
    with atomic():
        project.flows.send("order/paid", {"n": 1})
        assert project.world.events() == []
        if project.connection.vendor == "postgresql":
            assert recovered(project.world) == 0

    assert len(project.world.events()) == 1


def test_a_savepoint_that_is_rolled_back_takes_its_events_with_it_and_no_others(project: Project) -> None:
    with atomic():
        project.flows.send("order/paid", {"n": 1})
        with suppress(LookupError), atomic():
            project.flows.send("order/paid", {"n": 2})
            raise LookupError
        with atomic():
            project.flows.send("order/paid", {"n": 3})

    assert recovered(project.world) == 0
    assert outputs(project.world) == [1, 3]


def test_a_block_that_is_marked_for_rollback_leaves_nothing(project: Project) -> None:
    with atomic():
        project.flows.send("order/paid", {"n": 1})
        transaction.set_rollback(True, using="shop")

    assert project.world.events() == []


def test_a_block_whose_commit_is_refused_leaves_nothing(project: Project) -> None:
    project.order(1)

    def pay_twice() -> None:
        with atomic():
            project.flows.send("order/paid", {"n": 1})
            project.order(1)

    with pytest.raises(IntegrityError):
        pay_twice()

    assert project.world.events() == []


def test_outside_of_any_block_a_send_goes_at_once(project: Project) -> None:
    project.flows.send("order/paid", {"n": 1})

    assert outputs(project.world) == [1]


def test_a_bad_event_is_refused_and_the_block_stays_whole(project: Project) -> None:
    with atomic():
        project.order(1)
        with pytest.raises(InvalidEvent):
            project.flows.send([Event("order/paid"), Event("")])
        assert project.flows.send([]) == []

    assert (project.orders(), project.world.events()) == ([1], [])


def test_a_first_send_may_come_after_the_blocks_own_writes(project: Project) -> None:
    first = project.world.process("web")
    first.runtime.callers = project.world.runtime.callers
    first.flow(name="mail", trigger="order/paid")(lambda ctx: None)

    with atomic():
        project.order(1)
        first.flows.send("order/paid", {"n": 1})

    assert sorted(run.flow for run in project.world.runs()) == ["mail", "ship"]


def test_a_project_that_commits_by_hand_leaves_it_to_the_workers(project: Project) -> None:
    with no_autocommit():
        project.flows.send("order/paid", {"n": 1})
        transaction.rollback(using="shop")
        project.flows.send("order/paid", {"n": 2})
        transaction.commit(using="shop")

    assert project.world.runs() == []
    assert recovered(project.world) == 1
    assert outputs(project.world) == [2]


def test_another_threads_block_is_none_of_this_ones(project: Project) -> None:
    if project.connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer: the other thread would wait for this block")
    with atomic():
        project.order(1)
        thread = threading.Thread(target=project.flows.send, args=("order/paid", {"n": 1}))
        thread.start()
        thread.join()
        assert outputs(project.world) == [1]


def test_what_cannot_wait_for_the_commit_is_refused_at_once_where_the_block_is_the_one_writer(project: Project) -> None:
    project.flows.send("order/paid", {"n": 1})
    (run,) = project.world.runs()

    def cancel() -> bool:
        with atomic():
            project.order(1)
            return run.cancel()

    if project.connection.vendor == "sqlite":
        with pytest.raises(StoreError, match="do this behind it, by on_commit"):
            cancel()
    else:
        assert cancel()


def test_a_store_without_its_schema_is_not_made_inside_a_block(tmp_path: Path) -> None:
    add_alias("bare", f"sqlite:///{tmp_path / 'bare.sqlite3'}")
    store = Store(f"sqlite:///{tmp_path / 'bare.sqlite3'}")
    store.held_here = partial(is_held, store, DjangoCallers("bare"))

    with transaction.atomic(using="bare"), pytest.raises(SchemaMismatch, match="flows db upgrade"):
        store.prepare()

    store.prepare()
    store.dispose()
    drop_alias("bare")


# --- calls


def declare_pack(project: Project, **options: Any) -> Any:
    task = project.world.flow(name="pack", **options)(lambda ctx: ctx.event.data)
    project.world.start_worker()
    return task


def test_a_call_in_a_block_that_is_rolled_back_starts_nothing(project: Project) -> None:
    pack = declare_pack(project)

    with suppress(LookupError), atomic():
        result = pack.delay(n=1)
        raise LookupError

    assert (calls(project), recovered(project.world)) == (0, 0)
    assert project.flows.run(result.id).id not in [run.id for run in project.world.runs()]


def test_a_call_in_a_block_starts_after_the_commit_under_the_id_that_it_gave(project: Project) -> None:
    pack = declare_pack(project)

    with atomic():
        project.order(1)
        result = pack.delay(n=1)
        assert project.world.runs() == []

    run = project.world.only_run("pack")
    project.world.drain()
    assert (run.id, run.output) == (result.id, {"n": 1})
    assert (calls(project), recovered(project.world)) == (0, 0)


def test_a_call_in_a_savepoint_that_is_rolled_back_starts_nothing(project: Project) -> None:
    pack = declare_pack(project)

    with atomic():
        pack.delay(n=1)
        with suppress(LookupError), atomic():
            pack.delay(n=2)
            raise LookupError

    project.world.drain()
    assert [run.output for run in project.world.runs("pack")] == [{"n": 1}]
    assert calls(project) == 0


def test_the_options_of_a_call_outlive_the_block(project: Project) -> None:
    pack = declare_pack(project)

    with atomic():
        later = pack.apply_async(kwargs={"n": 1}, countdown=3600, expires=7200, queue="slow").id
        now = pack.apply_async(kwargs={"n": 2}, countdown=-5, task_id="mine").id

    project.world.drain()
    rows = project.world.store_rows("SELECT id, status, wake_at, expires_at, message FROM flows_runs ORDER BY status")
    assert [(row[0], row[1]) for row in rows] == [("mine", "completed"), (later, "scheduled")]
    assert now == "mine"
    wake_at, expires_at, message = rows[1][2:]
    assert timedelta(microseconds=expires_at - wake_at) > timedelta(minutes=59)
    assert '"slow"' in message


def test_the_same_id_twice_is_one_run_in_the_block_and_after_it(project: Project) -> None:
    pack = declare_pack(project)

    for _ in range(2):
        with atomic():
            pack.apply_async(kwargs={"n": 1}, task_id="mine")
            pack.apply_async(kwargs={"n": 2}, task_id="mine")
        project.world.drain()

    assert project.world.only_run("pack").output == {"n": 1}
    assert calls(project) == 0


def test_a_call_whose_caller_died_is_started_by_the_workers_once(project: Project) -> None:
    pack = declare_pack(project)
    with no_autocommit():
        pack.delay(n=1)
        transaction.commit(using="shop")

    assert (calls(project), project.world.runs()) == (1, [])
    assert recovered(project.world) == 1
    assert recovered(project.world) == 0
    assert project.world.only_run("pack").output == {"n": 1}


def test_limits_judge_a_call_after_the_commit_and_its_caller_is_told(project: Project) -> None:
    told: list[tuple[str, str]] = []
    project.world.broker.run_cancelled = lambda run_id, reason, message=None: told.append((run_id, reason))  # type: ignore[method-assign]
    pack = declare_pack(project, singleton=Singleton("skip"))

    with atomic():
        first = pack.delay(n=1)
        second = pack.delay(n=2)

    statuses = {run.id: run.status for run in project.world.runs("pack")}
    assert statuses == {first.id: Status.QUEUED, second.id: Status.SKIPPED}
    assert [run_id for run_id, _ in told] == [second.id]


def test_a_call_of_a_limited_task_belongs_to_the_block_too(project: Project) -> None:
    app = project.flows._wiring.current.app

    @app.task(name="sync", shared=False, concurrency=Concurrency(1, key="kwargs.n"))
    def sync(n: int) -> int:
        return n

    app.finalize()
    project.world.start_worker()
    with suppress(LookupError), atomic():
        sync.delay(1)
        raise LookupError
    with atomic():
        result = sync.delay(2)
        assert project.world.runs() == []

    assert [run.id for run in project.world.runs("sync")] == [result.id]


# --- the store elsewhere


def test_with_the_store_elsewhere_a_send_waits_for_the_commit(project: Project) -> None:
    pack = declare_pack(project)

    with transaction.atomic():
        (event_id,) = project.flows.send("order/paid", {"n": 1})
        result = pack.delay(n=2)
        assert (project.world.events(), project.world.runs()) == ([], [])
        with suppress(LookupError), transaction.atomic():
            project.flows.send("order/paid", {"n": 3})
            pack.delay(n=4)
            raise LookupError

    assert event_id in [event.id for event in project.world.events()]
    assert outputs(project.world) == [1]
    assert [run.id for run in project.world.runs("pack")] == [result.id]
    default.close()


def test_of_two_open_blocks_that_of_the_store_counts(project: Project) -> None:
    with transaction.atomic():
        with atomic():
            project.flows.send("order/paid", {"n": 1})
        assert len(project.world.events()) == 1
    default.close()


def test_a_call_that_nobody_starts_is_seen_by_the_doctor(project: Project) -> None:
    pack = declare_pack(project)
    with no_autocommit():
        pack.delay(n=1)
        project.flows.send("order/paid", {"n": 1})
        transaction.commit(using="shop")

    waiting = unrouted(project.world.store, project.world.clock.now())

    assert waiting.count == 2
    assert waiting.oldest is not None
