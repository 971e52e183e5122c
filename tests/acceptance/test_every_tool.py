"""Each step tool once, with hooks, on real workers: on SQLite, and encrypted on PostgreSQL, where no secret stays."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import create_engine

from celeryflows import Event
from celeryflows.store.schema import metadata
from tests.acceptance.terminal import Terminal
from tests.celery.apps import tools
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.worlds import BRISK, World

SOON = 45.0
SECRET = "4111-1111-1111-1111"
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SETTINGS: dict[str, dict[str, Any]] = {"postgres": {"flows_encryption_keys": [KEY]}}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def world(kind: str, make_world: Callable[..., World]) -> Iterator[World]:
    made = make_world(kind, **BRISK, **SETTINGS.get(kind, {}))
    engine = create_engine(made.store.url)
    tools.metadata.create_all(engine)
    engine.dispose()
    with made.worker("tests.celery.apps.tools", "-P", "threads", "-c", "4"):
        yield made


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(tools.sheet)


def everywhere(world: World) -> str:
    """All that stands in the store, as anybody reads it who has no key."""
    with world.store.engine.connect() as connection:
        rows = [row for table in metadata.tables for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]
    return "\n".join(str(row) for row in rows)


@pytest.mark.parametrize("flow", ["everything", "aeverything"])
def test_each_tool_gives_its_value_and_does_its_work_once(app: Celery, world: World, flow: str) -> None:
    flows: Any = app.flows  # type: ignore[attr-defined]
    called = app.tasks[f"tools.{flow}"].delay(card=SECRET, id=flow)
    assert eventually(lambda: flows.signal(f"tools/{flow}", {"card": SECRET}), within=SOON) == called.id

    assert called.get(timeout=SOON) == {
        "charged": 3,
        "booked": "booked",
        # What came before the step before the wait began is not looked for.
        "late": None,
        "soon": SECRET,
        "branches": [SECRET, {"card": SECRET}],
        "refused": f"refused {SECRET}",
        "packed": {"packed": SECRET, "sealed": "yes"},
        "race": [1, {"card": SECRET}],
        "marked": f"tools.{flow}",
    }
    world.told(f"completed tools.{flow} {called.id}")
    told = world.counts()
    assert (told[f"charge {called.id}"], told[f"provoked {called.id}"]) == (2, 1)
    assert world.rows("SELECT count(*) FROM tool_lines WHERE line = :run", run=called.id) == [(1,)]
    done = Counter(line.removeprefix(f"step {called.id} ") for line in told if line.startswith(f"step {called.id} "))
    assert set(done) >= {"charge", "book", "provoke", "again", "group[1]/look"}
    assert {told[f"step {called.id} {step}"] for step in done} == {1}
    assert told[f"completed tools.{flow} {called.id}"] == 1


def test_an_event_cancels_its_run_alone(app: Celery, world: World) -> None:
    flows: Any = app.flows  # type: ignore[attr-defined]
    flows.send([Event("tools/started", {"card": card}) for card in (SECRET, "another")])
    runs = "SELECT status FROM flows_runs WHERE flow = 'tools.stoppable' ORDER BY id"
    eventually(lambda: world.rows(runs) == [("suspended",)] * 2, within=SOON)
    flows.send("tools/stopped", {"card": SECRET})

    assert world.rows(runs) == [("cancelled",), ("suspended",)]
    flows.cancel(flow="tools.stoppable")
    assert world.rows(runs) == [("cancelled",)] * 2


def test_a_line_of_runs_gives_its_last_value(app: Celery, world: World) -> None:
    called = app.tasks["tools.line"].delay(card=SECRET)
    assert called.get(timeout=SOON) == SECRET
    assert len(world.rows("SELECT id FROM flows_runs WHERE flow = 'tools.line'")) == 2


def test_runs_are_done_again_from_a_step_and_many_at_once(app: Celery, world: World) -> None:
    flows: Any = app.flows  # type: ignore[attr-defined]
    called = app.tasks["tools.mended"].delay(card=SECRET)
    world.ends(called.id, "failed")
    again = flows.run(called.id).rerun(from_step="work", input=[f"{SECRET} mended"])
    assert again.get(timeout=SOON) == f"{SECRET} mended"
    assert world.counts()[f"before {SECRET}"] == 1

    world.open_gate("mended")
    replay = flows.replay("tools.mended", if_exp=f"event.data.card == '{SECRET}'")
    eventually(lambda: replay.ended_at and replay.runs == {"completed": 1}, within=SOON)
    assert (replay.total, replay.done) == (1, 1)


def test_no_secret_stands_anywhere_and_all_of_it_is_pruned(app: Celery, world: World, kind: str) -> None:
    assert "tools.everything" in everywhere(world)
    assert (SECRET in everywhere(world)) == (kind != "postgres"), "where nothing is encrypted it has to be found"
    open_runs = "SELECT flow, status FROM flows_runs WHERE ended_at IS NULL OR owes IS NOT NULL"
    eventually(lambda: world.rows(open_runs) == [], within=SOON)

    def ended_long_ago() -> bool:
        return bool(world.rows("SELECT count(*) FROM flows_runs WHERE ended_at > {now} - 1500000") == [(0,)])

    eventually(ended_long_ago)
    done = Terminal(app)("prune", "--older-than", "1s")
    assert (done.exit_code, done.stdout.startswith("pruned ")) == (0, True), done.output
    kept = ("runs", "branches", "groups", "steps", "waits", "tasks")
    assert [world.rows(f"SELECT count(*) FROM flows_{table}") for table in kept] == [[(0,)]] * len(kept)
