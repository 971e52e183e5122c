"""Promises of tasks that runs have sent out: one answer counts, and what is lost is found. On each database."""

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signature

from celeryflows import Flows, Status
from celeryflows.celery_bridge.remote_step import CeleryTasks
from celeryflows.engine.lost_tasks import LostTasks
from celeryflows.engine.remote_tasks import answer
from celeryflows.model.remote_tasks import Outcome, SentTask, TaskCall
from celeryflows.scheduler import task_watch
from celeryflows.scheduler.sweeper import NoBroker
from celeryflows.scheduler.task_watch import TaskWatch
from celeryflows.store.database import Store
from celeryflows.store.keyring import Keyring
from celeryflows.store.upgrade import upgrade
from celeryflows.testing import check_history
from tests.engine.world import World, store_at


class Post(CeleryTasks):
    """Reads and packs as ever; what is sent lies here, until a test has the tasks end."""

    def __init__(self, world: World) -> None:
        super().__init__(world.flows._wiring.current)
        self.world = world
        self.sent: list[SentTask] = []
        self.revoked: list[str] = []
        self.known: dict[str, Outcome] = {}
        self.gone: set[str] = set()
        self.told: list[str] = []

    def send(self, tasks: Sequence[SentTask]) -> None:
        self.sent += tasks

    def revoke(self, task_ids: Sequence[str]) -> None:
        self.revoked += task_ids

    def outcome(self, task_id: str) -> Outcome | None:
        return self.known.get(task_id)

    def missing(self, tasks: Sequence[SentTask]) -> set[str]:
        return {one.id for one in tasks} & self.gone

    def call_errbacks(self, call: TaskCall, task_id: str, told: str) -> None:
        self.told.append(told)

    def ends(self, key: str, value: str) -> bool:
        """The task of this step has ended; the run goes on."""
        [task] = [one for one in self.sent if one.key == key]
        taken = answer(self.world.runtime, task.id, Outcome(value=value))
        self.world.drain()
        return taken


@pytest.fixture
def world(store_url: str) -> Any:
    made = World(store_at(store_url))
    yield made
    made.close()


@pytest.fixture
def post(world: World) -> Post:
    made = Post(world)
    world.runtime.tasks = made
    return made


def started(world: World, handler: Callable[[Any], Any]) -> Any:
    """A run of a new flow, as far as it goes alone."""
    task = world.flow(name=f"f{len(world.runtime.flows)}", retries=0)(handler)
    run_id = task.delay().id
    world.drain()
    return world.flows.run(run_id)


def sig(name: str = "far.away", *args: Any, **options: Any) -> Any:
    return signature(name, args=args, options=options)


def turns(world: World) -> int:
    [(found,)] = world.store_rows("SELECT turn FROM flows_runs")
    return int(found)


def watch(world: World, *, busy: bool = False) -> LostTasks:
    """A look after all tasks, as if all were due now."""
    world.store_rows("UPDATE flows_tasks SET next_at = 0 WHERE next_at IS NOT NULL")
    return LostTasks(world.runtime, nullcontext(), lambda tasks: {one.id for one in tasks if busy})


def look_again(world: World, tasks: LostTasks) -> None:
    world.store_rows("UPDATE flows_tasks SET next_at = 0 WHERE next_at IS NOT NULL")
    tasks.look()
    world.drain()


def test_a_look_that_hangs_is_told_in_the_log(
    world: World, post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started(world, lambda ctx: ctx.step.task("t", sig()))
    world.store_rows("UPDATE flows_tasks SET next_at = 0")
    asked, answers = threading.Event(), threading.Event()

    def hangs(_task_id: str) -> None:
        asked.set()
        assert answers.wait(30)

    monkeypatch.setattr(post, "outcome", hangs)
    watching = TaskWatch(world.runtime, NoBroker(), nullcontext())
    watching.start()
    assert asked.wait(30)
    watching.start()
    assert caplog.messages == []
    monkeypatch.setattr(task_watch, "PATIENCE", 0.0)
    watching.start()
    assert "waits for a broker or a result backend that does not answer" in caplog.messages[-1]
    answers.set()
    assert watching._thread is not None
    watching._thread.join(30)


# --- one answer


def test_the_first_answer_is_the_steps_and_later_ones_change_nothing(world: World, post: Post) -> None:
    run = started(world, lambda ctx: [ctx.step.task("t", sig()), ctx.step.task("u", sig())])
    assert run.status is Status.SUSPENDED
    assert (post.ends("t", "1"), post.ends("t", "2")) == (True, False)
    assert post.ends("u", "3")
    assert run.output == [1, 3]
    assert len(post.sent) == 2


def test_of_many_answers_at_once_one_counts(world: World, post: Post) -> None:
    run = started(world, lambda ctx: ctx.step.task("t", sig()))
    [task] = post.sent
    start = threading.Barrier(6)

    def give(n: int) -> None:
        start.wait()
        answer(world.runtime, task.id, Outcome(value=str(n)))

    threads = [threading.Thread(target=give, args=(n,)) for n in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    world.drain()
    assert run.output in range(6)
    assert turns(world) == 2


def test_a_tasks_id_follows_from_run_and_step(world: World, post: Post) -> None:
    run = started(world, lambda ctx: ctx.step.task("t", sig()))
    [(name,)] = world.store_rows("SELECT name FROM flows_waits WHERE kind = 'task'")
    assert post.sent[0].id == name
    again = started(world, lambda ctx: ctx.step.task("t", sig()))
    assert post.sent[1].id != name
    assert run.id != again.id


def test_an_answer_to_a_cancelled_run_changes_nothing_and_its_task_is_revoked(world: World, post: Post) -> None:
    run = started(world, lambda ctx: ctx.step.task("t", sig()))
    assert run.cancel()
    assert post.revoked == [post.sent[0].id]
    assert not post.ends("t", "1")
    assert run.status is Status.CANCELLED


def test_members_of_a_group_wake_their_run_once_they_have_all_answered(world: World, post: Post) -> None:
    canvas = chord([sig("a"), chain(sig("b"), sig("c")), sig("d")], sig("e"))
    run = started(world, lambda ctx: ctx.step.task("all", canvas))
    assert [one.key for one in post.sent] == ["all/a", "all/b", "all/d"]
    post.ends("all/a", "1")
    assert turns(world) == 1
    post.ends("all/b", "2")
    assert (turns(world), post.sent[-1].key) == (2, "all/c")
    post.ends("all/c", "3")
    post.ends("all/d", "4")
    assert post.sent[-1].key == "all/e"
    assert '"args": [[1, 3, 4]]' in post.sent[-1].text
    post.ends("all/e", '"done"')
    assert run.output == "done"


def test_a_failed_header_tells_the_bodys_errbacks_once_and_sends_no_body(world: World, post: Post) -> None:
    body = sig("body")
    body.link_error(sig("errback"))

    def handler(ctx: Any) -> Any:
        try:
            ctx.step.task("all", chord([sig("a"), sig("b")], body))
        except Exception as error:
            ctx.step.sleep("nap", "1s")
            return str(error)

    run = started(world, handler)
    answer(world.runtime, post.sent[0].id, Outcome(error='{"name": "ValueError", "message": "no"}'))
    post.ends("all/b", "2")
    assert post.told == ["all/a failed: ValueError: no"]
    assert run.status is Status.SUSPENDED
    assert [one.key for one in post.sent] == ["all/a", "all/b"]
    assert {step.id: step.state for step in run.steps}["all/body"] == "failed"


def test_a_value_or_arguments_past_the_bound_fail_their_step(store_url: str) -> None:
    world = World(store_at(store_url), max_value_bytes=100)
    post = world.runtime.tasks = Post(world)
    run = started(world, lambda ctx: ctx.step.task("t", sig()))
    post.ends("t", f'"{"x" * 200}"')
    assert (run.error.name, "flows_max_value_bytes" in run.error.message) == ("BoundExceeded", True)
    run = started(world, lambda ctx: ctx.step.task("t", sig("far.away", "x" * 200)))
    assert "bytes of arguments: at most 100" in run.error.message
    assert len(post.sent) == 1
    world.close()


def test_an_outage_while_an_answer_is_given_leaves_the_run_waiting_for_it(world: World, post: Post) -> None:
    run = started(world, lambda ctx: ctx.step.task("t", sig()))

    def fail(sql: str) -> None:
        if "UPDATE flows_steps" in sql:
            world.store.observer = None
            raise RuntimeError("the process died here")

    world.store.observer = fail
    with pytest.raises(RuntimeError):
        post.ends("t", "1")
    assert run.status is Status.SUSPENDED
    assert post.ends("t", "2")
    assert run.output == 2


# --- what is lost


def test_a_lost_answer_is_taken_from_the_result_backend(world: World, post: Post) -> None:
    run = started(world, lambda ctx: ctx.step.task("t", sig()))
    post.known[post.sent[0].id] = Outcome(value="5")
    watch(world).look()
    world.drain()
    assert run.output == 5


def test_a_task_that_nobody_has_in_two_looks_is_sent_again_under_its_id(world: World, post: Post) -> None:
    started(world, lambda ctx: ctx.step.task("t", sig("far.away", 7)))
    post.gone = {post.sent[0].id}
    tasks = watch(world)
    tasks.look()
    assert len(post.sent) == 1
    look_again(world, tasks)
    assert [one.id for one in post.sent] == [post.sent[0].id] * 2
    assert post.sent[0].text == post.sent[1].text


def test_a_task_whose_answer_may_be_on_its_way_is_not_sent_again(world: World, post: Post) -> None:
    started(world, lambda ctx: ctx.step.task("t", sig()))
    post.gone = {post.sent[0].id}
    tasks = watch(world, busy=True)
    for _ in range(4):
        look_again(world, tasks)
    assert len(post.sent) == 1


def test_a_task_that_somebody_has_is_left_alone_and_looked_for_later(world: World, post: Post) -> None:
    started(world, lambda ctx: ctx.step.task("t", sig()))
    tasks = watch(world)
    assert (tasks.look(), tasks.look()) == (1, 0)
    assert len(post.sent) == 1


def test_a_message_that_was_never_sent_is_found_by_the_same_look(world: World, post: Post) -> None:
    post.send = lambda tasks: None  # type: ignore[method-assign]
    run = started(world, lambda ctx: ctx.step.task("t", sig()))
    del post.send  # type: ignore[attr-defined]
    [(task_id,)] = world.store_rows("SELECT id FROM flows_tasks")
    post.gone = {task_id}
    tasks = watch(world)
    look_again(world, tasks)
    look_again(world, tasks)
    assert post.ends("t", "1")
    assert run.output == 1


def test_a_task_that_never_answers_fails_its_step_after_ten_sends(world: World, post: Post) -> None:
    run = started(world, lambda ctx: ctx.step.task("t", sig()))
    post.gone = {post.sent[0].id}
    tasks = watch(world)
    for _ in range(20):
        look_again(world, tasks)
    assert len(post.sent) == 10
    assert (run.error.name, "sent 10 times" in run.error.message) == ("TaskLost", True)


def test_what_a_run_left_behind_is_revoked_by_the_look(world: World, post: Post) -> None:
    run = started(world, lambda ctx: ctx.group.race(lambda: ctx.step.task("t", sig()), lambda: 1))
    assert run.output == [1, 1]
    world.store_rows("UPDATE flows_tasks SET next_at = 1 WHERE id = :id", id=post.sent[0].id)
    post.revoked.clear()
    watch(world).look()
    assert post.revoked == [post.sent[0].id]
    assert world.store_rows("SELECT next_at FROM flows_tasks") == [(None,)]


def test_a_task_that_was_overtaken_is_marked_so(world: World, post: Post) -> None:
    started(world, lambda ctx: [ctx.step.task("t", sig(queue="q"))])
    started(world, lambda ctx: [ctx.step.task("u", sig(queue="q"))])
    world.store_rows("UPDATE flows_tasks SET sent_at = sent_at - 90000000 WHERE key = 't'")
    post.ends("u", "1")
    asked: list[SentTask] = []
    post.missing = lambda tasks: set(asked.extend(tasks) or ())  # type: ignore[method-assign]
    watch(world).look()
    assert [(one.key, one.overtaken) for one in asked] == [("t", True)]


# --- other parts of a run


def test_a_history_with_tasks_and_canvases_fits_its_code(world: World, post: Post) -> None:
    canvas = chord([sig("a"), sig("b")], sig("c"))
    run = started(world, lambda ctx: [ctx.step.task("t", sig()), ctx.step.task("all", canvas)])
    assert check_history(world.flows).differences == ()
    for key in ("t", "all/a", "all/b", "all/c"):
        post.ends(key, "1")
        assert check_history(world.flows).differences == ()
    assert run.output == [1, 1]
    sent = len(post.sent)
    assert [finding.what for run in check_history(world.flows) for finding in run.findings] == []
    assert len(post.sent) == sent


def test_payloads_of_tasks_are_sealed(store_url: str) -> None:
    key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    store = Store(store_url, sealer=Keyring([key]))
    upgrade(store)
    store.agree_on_keys()
    world = World(store)
    post = world.runtime.tasks = Post(world)
    run = started(world, lambda ctx: ctx.step.task("t", sig("far.away", "secret")))
    assert "secret" in post.sent[0].text
    with store.engine.connect() as raw:
        assert "secret" not in str(raw.exec_driver_sql("SELECT * FROM flows_tasks").all())
    post.ends("t", '"secret"')
    assert run.output == "secret"
    world.close()


def test_a_group_larger_than_the_bound_of_steps_is_refused(store_url: str) -> None:
    world = World(store_at(store_url), max_steps=10)
    post = world.runtime.tasks = Post(world)
    run = started(world, lambda ctx: ctx.step.task("all", group(sig() for _ in range(20))))
    assert (run.error.name, post.sent) == ("BoundExceeded", [])
    world.close()


def test_old_runs_are_forgotten_with_their_tasks(world: World, post: Post) -> None:
    run = started(world, lambda ctx: ctx.step.task("t", sig()))
    post.ends("t", "1")
    with world.store.connection() as connection:
        connection.transact(lambda tx: tx.retention.forget_runs([run.id]))
    assert world.store_rows("SELECT count(*) FROM flows_tasks") == [(0,)]


def test_a_plain_app_and_its_flows_know_the_tasks_of_answers(app: Celery, flows: Flows) -> None:
    assert {"celeryflows.answer", "celeryflows.answer_failed"} <= set(app.tasks)
