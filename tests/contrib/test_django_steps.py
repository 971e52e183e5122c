"""Promises of `step.transaction` with the store in the project's database: Django's connection, once, or not at all."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from celeryflows import Backoff, RunHandle, Status, StepError
from celeryflows.contrib.django.atomic import CallersBeside
from celeryflows.contrib.django.step_atomic import AtomicStep
from celeryflows.engine.resume import requeue
from celeryflows.store.runs import Held
from celeryflows.testing import FlowsTester
from tests.contrib.conftest import Project
from tests.waiting import eventually

AT_ONCE = Backoff("0s")


def book(connection: Any, number: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders (id) VALUES (%s)", [number])
    return number


def run_of(project: Project, handler: Callable[[Any], Any], **options: Any) -> RunHandle:
    """A run of the handler that was driven to its end."""
    task = project.world.flow(name="books", **{"backoff": AT_ONCE, **options})(handler)
    project.world.start_worker()
    run = project.flows.run(task.delay().id)

    def is_ended() -> bool:
        project.world.drain()
        project.world.run_due()
        return run.ended_at is not None

    eventually(is_ended, within=20)
    return run


@pytest.mark.parametrize("is_async", [False, True])
def test_the_function_is_given_djangos_connection_and_its_rows_stand_once(project: Project, is_async: bool) -> None:
    given: list[Any] = []

    def write(connection: Any, number: int) -> int:
        given.append((connection.alias, connection.in_atomic_block))
        return book(connection, number)

    def flow(ctx: Any) -> Any:
        first = ctx.step.transaction("a", write, 1)
        ctx.step.sleep("nap", "1 ms")
        return first, ctx.step.transaction("b", write, number=2)

    async def async_flow(ctx: Any) -> Any:
        first = await ctx.step.transaction("a", write, 1)
        await ctx.step.sleep("nap", "1 ms")
        return first, await ctx.step.transaction("b", write, number=2)

    run = run_of(project, async_flow if is_async else flow)

    assert (run.output, project.orders(), given) == ([1, 2], [1, 2], [("shop", True)] * 2)


def test_an_error_rolls_back_and_is_tried_again(project: Project) -> None:
    def flow(ctx: Any) -> Any:
        def write(connection: Any) -> int:
            book(connection, 10 + ctx.attempt)
            if ctx.attempt == 0:
                raise LookupError
            return ctx.attempt

        return ctx.step.transaction("a", write)

    run = run_of(project, flow)

    assert (run.output, project.orders()) == (1, [11])


def test_a_refused_statement_is_the_steps_error(project: Project) -> None:
    project.order(1)

    def flow(ctx: Any) -> Any:
        try:
            ctx.step.transaction("a", book, 1)
        except StepError as error:
            return error.name, ctx.step.transaction("b", book, 2)

    run = run_of(project, flow, retries=1)

    assert (run.output, project.orders()) == (["IntegrityError", 2], [1, 2])


def test_a_part_of_it_may_be_rolled_back_and_sends_belong_to_it(project: Project) -> None:
    def flow(ctx: Any) -> Any:
        def write(connection: Any) -> None:
            try:
                with transaction.atomic(using="shop"):
                    book(connection, 1)
                    project.flows.send("order/paid", {"n": 1})
                    raise LookupError
            except LookupError:
                book(connection, 2)
            project.flows.send("order/paid", {"n": 2 + ctx.attempt})
            if ctx.attempt == 0:
                raise LookupError

        ctx.step.transaction("a", write)

    run_of(project, flow)

    assert project.orders() == [2]
    assert [run.output for run in project.world.runs("ship")] == [3]


def test_what_waits_for_the_commit_is_called_after_it_and_an_error_of_that_is_not_the_steps(project: Project) -> None:
    seen: list[Any] = []

    def flow(ctx: Any) -> Any:
        def write(connection: Any) -> int:
            def committed() -> None:
                seen.append((connection.in_atomic_block, project.orders()))
                raise LookupError

            transaction.on_commit(committed, using="shop")
            return book(connection, 1)

        return ctx.step.transaction("a", write)

    run = run_of(project, flow)

    assert (run.output, seen) == (1, [(False, [1])])


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_commit_whose_reply_was_lost_is_read_back_before_anything_is_tried_again(
    project: Project, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    calls: list[int] = []
    commit = AtomicStep.commit

    def lossy(step: AtomicStep) -> None:
        if len(calls) == 1:
            if lost == "after":
                commit(step)
            raise ConnectionError("the reply was lost")
        commit(step)

    monkeypatch.setattr(AtomicStep, "commit", lossy)

    def flow(ctx: Any) -> Any:
        def write(connection: Any) -> int:
            calls.append(ctx.attempt)
            return book(connection, 1)

        return ctx.step.transaction("a", write)

    run = run_of(project, flow)

    assert (run.output, project.orders()) == (1, [1])
    assert len(calls) == (2 if lost == "before" else 1)


def test_a_zombies_statements_are_rolled_back(project: Project) -> None:
    if project.connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer: nobody takes the run over while the function is at it")
    others = project.world.process()
    calls: list[int] = []

    def flow(ctx: Any) -> Any:
        def write(connection: Any) -> int:
            calls.append(len(calls))
            if len(calls) == 1:
                book(connection, 1)
                ((turn, worker, token),) = project.world.store_rows("SELECT turn, worker, claim_tok FROM flows_runs")
                requeue(others.runtime, Held(ctx.run_id, turn, worker, token, ""))
                return 1
            return book(connection, 2)

        return ctx.step.transaction("a", write)

    run = run_of(project, flow)

    assert (run.output, project.orders(), len(calls)) == (2, [2], 2)


def test_in_a_project_that_commits_by_hand_it_commits_all_the_same(project: Project) -> None:
    def flow(ctx: Any) -> Any:
        def write(connection: Any) -> int:
            book(connection, 1 + ctx.attempt)
            if ctx.attempt == 0:
                raise LookupError
            return ctx.attempt

        project.connection.close()
        project.connection.settings_dict["AUTOCOMMIT"] = False
        project.orders()
        return ctx.step.run("before", lambda: 1), ctx.step.transaction("a", write)

    run = run_of(project, flow)
    project.connection.close()

    assert (run.output, project.orders()) == ([1, 1], [2])


# --- refused


def closes(connection: Any) -> None:
    book(connection, 1)
    connection.close()


def swallows(connection: Any) -> None:
    book(connection, 1)
    try:
        with transaction.atomic(using="shop", savepoint=False):
            raise LookupError
    except LookupError:
        pass


def test_a_function_that_ends_its_transaction_is_told_to_leave_that_to_the_step(project: Project) -> None:
    run = run_of(project, lambda ctx: ctx.step.transaction("a", closes))

    assert run.error is not None
    assert (run.status, project.orders()) == (Status.FAILED, [])
    assert "closed its connection or left its transaction" in run.error.message


def test_a_function_that_swallows_what_broke_its_transaction_is_told_so(project: Project) -> None:
    run = run_of(project, lambda ctx: ctx.step.transaction("a", swallows))

    assert run.error is not None
    assert (run.status, project.orders()) == (Status.FAILED, [])
    assert "swallowed an error" in run.error.message


@pytest.mark.parametrize("tool", ["run", "transaction", "sleep"])
def test_a_step_inside_a_block_of_the_handlers_own_is_refused(project: Project, tool: str) -> None:
    def flow(ctx: Any) -> Any:
        with transaction.atomic(using="shop"):
            project.order(1)
            if tool == "sleep":
                return ctx.step.sleep("a", "1s")
            return getattr(ctx.step, tool)("a", lambda *_: 1)

    run = run_of(project, flow)

    assert run.error is not None
    assert (run.status, run.error.name, project.orders()) == (Status.FAILED, "StepMisuse", [])
    assert "step 'a' was called inside an open transaction" in run.error.message


# --- in tests


def test_in_the_test_kit_the_function_is_given_djangos_connection_too(project: Project) -> None:
    def flow(ctx: Any) -> Any:
        def write(connection: Any) -> int:
            book(connection, 1 + ctx.attempt)
            if ctx.attempt == 0:
                raise LookupError
            return ctx.attempt

        return ctx.step.transaction("a", write)

    task = project.world.flow(name="books", backoff=AT_ONCE)(flow)

    with FlowsTester(project.flows) as tester:
        tester._runtime.callers = CallersBeside("shop")
        tester.crash_after("a")
        run = tester.start(task)
        assert (run.output, tester.calls("a")) == (1, 2)

    assert project.orders() == [2]


def test_in_the_test_kit_a_send_inside_a_block_goes_at_once(project: Project) -> None:
    with FlowsTester(project.flows) as tester, transaction.atomic(using="shop"):
        tester._runtime.callers = CallersBeside("shop")
        project.flows.send("order/paid", {"n": 1})
        tester.advance("0s")
        assert [run.output for run in tester.runs("ship")] == [1]
