"""step.transaction and step.using on real workers: each line is written once, whatever is killed."""

from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from sqlalchemy import create_engine

from tests.celery.apps import books
from tests.worlds import BRISK, World

SOON = 30.0
RUNS = 8


@pytest.fixture(scope="module", params=["prefork-postgres", "threads-sqlite", "prefork-sqlite"])
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def world(pool: str, make_world: Callable[..., World]) -> Iterator[World]:
    kind, store = pool.split("-")
    made = make_world(store, **BRISK)
    engine = create_engine(made.store.url)
    books.metadata.create_all(engine)
    engine.dispose()
    with made.worker("tests.celery.apps.books", "-P", kind, "-c", "3"):
        yield made


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(books.sheet)


def written(world: World, run_id: str) -> list[str]:
    rows = world.rows("SELECT line FROM book_lines ORDER BY line")
    return [line.removeprefix(f"{run_id} ") for (line,) in rows if line.startswith(run_id)]


def test_each_line_is_written_once(app: Celery, world: World) -> None:
    called = [app.tasks["books.booked"].delay() for _ in range(RUNS)]
    assert [one.get(timeout=SOON) for one in called] == [1] * RUNS
    assert [written(world, one.id) for one in called] == [["first", "second"]] * RUNS


def test_each_line_is_written_once_though_processes_are_killed_before_their_commits(
    app: Celery, world: World, pool: str
) -> None:
    if pool.startswith("threads"):
        pytest.skip("a kill would take the whole worker")
    called = [app.tasks["books.booked"].delay(killed=True) for _ in range(3)]
    assert [app.flows.run(one.id).get(timeout=SOON) for one in called] == [1] * 3
    assert [written(world, one.id) for one in called] == [["first", "second"]] * 3
    assert world.rows("SELECT count(*) FROM flows_steps WHERE key = 'second' AND attempts <> 1") == [(0,)]


def test_async_flows_write_each_line_once(app: Celery, world: World) -> None:
    called = [app.tasks["books.booked_at_once"].delay() for _ in range(RUNS)]
    assert [one.get(timeout=SOON) for one in called] == [[f"{one.id} first", f"{one.id} second"] for one in called]
    assert [written(world, one.id) for one in called] == [["first", "second"]] * RUNS


def test_celerys_soft_limit_strikes_a_step_that_waits_for_its_own_timeout(app: Celery, pool: str) -> None:
    if pool.startswith("threads"):
        pytest.skip("Celery has no soft limits on threads")
    assert app.tasks["books.limited"].delay().get(timeout=SOON) == ["StepError", "SoftTimeLimitExceeded"]
