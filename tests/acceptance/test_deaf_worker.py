"""A worker whose loop hangs: it beats and leads, keeps the messages that it has taken, and takes no more."""

from collections.abc import Callable, Iterator

import pytest
from celery import Celery

from celeryflows import Event
from celeryflows.console.crew import Hand, crew
from tests.acceptance.terminal import Report, Terminal
from tests.celery.apps import works
from tests.waiting import eventually
from tests.worlds import BRISK, World

APP = "tests.celery.apps.hanging"
SOON = 60.0


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world(**BRISK)


@pytest.fixture
def app(world: World) -> Iterator[Celery]:
    yield world.app(works.sheet)
    for gate in ("work", "loop"):
        world.open_gate(gate)


def hands(app: Celery) -> dict[str, Hand]:
    return {hand.worker.host.partition("@")[0]: hand for hand in crew(app.flows.runtime).hands}


@pytest.mark.timeout(180)
def test_a_worker_that_beats_and_hears_nothing_is_shown_and_others_do_its_work(world: World, app: Celery) -> None:
    with world.worker(APP, "-c", "1", "-n", "deaf@here"):
        called = app.tasks["works.holds"].delay(gate="work")
        world.told(f"{called.id} holds", within=SOON)
        app.flows.send([Event("works/asked", {"n": n}) for n in range(12)])
        with world.redis() as client:
            # It keeps those that it took beside the one at work.
            eventually(lambda: 0 < client.llen("celery") < 12, within=SOON)
        app.control.broadcast("hang", arguments={"gate": "loop"})
        world.told("it hangs", within=SOON)
        world.open_gate("work")
        world.ends(called.id)
        world.age_messages(60)
        deaf, report = hands(app)["deaf"], Report(Terminal(app))
        assert (deaf.worker.alive, deaf.worker.leads, deaf.deaf, deaf.turns) == (True, True, True, ())
        level, text = report("consuming")
        assert (level, report.bad) == ("warn", set())
        assert f"deaf@here (pid {deaf.worker.pid}): alive, at work on no run" in text

        with world.worker(APP, "-c", "1", "-n", "other@here"):
            eventually(lambda: completed(world) == 13, within=SOON)
            assert hands(app)["deaf"].worker.alive
            assert not any(hand.deaf for hand in hands(app).values())
            assert "consuming" not in Report(Terminal(app)).findings
            world.open_gate("loop")
            with world.redis() as client:
                # What it kept it hears of now, and has nothing of it to do.
                eventually(lambda: client.hlen("unacked") == client.llen("celery") == 0, within=SOON)
    assert sum(world.counts().values()) == len(world.counts()) == 14


def completed(world: World) -> int:
    return int(world.rows("SELECT count(*) FROM flows_runs WHERE status = 'completed'")[0][0])
