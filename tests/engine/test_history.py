"""Promises of the list of runs: by status and flow, the newest first, in pages that neither overlap nor lose a run."""

from types import SimpleNamespace
from typing import Any

import pytest

from celeryflows import Event, OnCron, ids
from celeryflows.store.reports.runs import RunView
from tests.engine.world import World


@pytest.fixture
def history(world: World) -> World:
    """Runs of three flows that ended in three ways, or sleep, each a little later than the one before."""
    world.flow(name="good", trigger="a/b")(lambda ctx: ctx.event.data["n"])
    world.flow(name="bad", trigger="a/b", retries=0)(lambda ctx: 1 / 0)
    world.flow(name="sleepy", trigger="a/b")(lambda ctx: ctx.step.sleep("nap", "1h"))
    for n in range(10):
        world.send("a/b", {"n": n}, id=f"e{n // 2}")
        world.tick()
    world.runs("sleepy", "suspended")[0].cancel()
    return world


def pages(world: World, limit: int, arrive: Any = lambda: None, **filters: Any) -> list[list[RunView]]:
    """All pages, while something arrives between them."""
    found: list[list[RunView]] = []
    cursor = None
    while page := world.flows.runs(limit=limit, cursor=cursor, **filters):
        found.append(page)
        cursor = page[-1].id
        arrive()
    return found


def newest_first(world: World, flow: str | None = None, status: str | None = None) -> list[str]:
    return [run.id for run in reversed(world.runs(flow, status))]


@pytest.mark.parametrize("flow", [None, "good", "bad", "sleepy", "nobody"])
@pytest.mark.parametrize("status", [None, "completed", "failed", "cancelled", "suspended", "skipped", "queued"])
def test_a_list_holds_what_was_asked_for_and_nothing_else(history: World, flow: str | None, status: str | None) -> None:
    listed = [run.id for run in history.flows.runs(flow=flow, status=status)]

    assert sorted(listed) == sorted(newest_first(history, flow, status))


def test_the_counts_are_what_was_done(history: World) -> None:
    counts = {
        status: len(history.flows.runs(status=status))
        for status in ("completed", "failed", "cancelled", "suspended", "skipped")
    }

    assert counts == {"completed": 5, "failed": 5, "cancelled": 1, "suspended": 4, "skipped": 15}


@pytest.mark.parametrize("filters", [{}, {"flow": "good"}, {"status": "skipped"}, {"flow": "bad", "status": "failed"}])
@pytest.mark.parametrize("limit", [1, 3, 7])
def test_pages_neither_overlap_nor_lose_a_run_while_runs_arrive(
    history: World, filters: dict[str, str], limit: int
) -> None:
    before = sorted(run.id for run in history.flows.runs(limit=1000, **filters))

    found = pages(history, limit, lambda: history.send("a/b", {"n": 99}), **filters)

    assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
    assert sorted(run.id for page in found for run in page) == before


def test_a_page_has_fifty_runs_unless_told_otherwise(world: World) -> None:
    world.flow(name="good", trigger="a/b")(lambda ctx: None)
    world.send([Event("a/b")] * 60)

    assert len(world.flows.runs()) == 50
    assert len(world.flows.runs(limit=60)) == 60


def test_a_listed_run_tells_how_it_stands(history: World) -> None:
    bad = history.flows.runs(flow="bad", status="failed")[0]
    skipped = history.flows.runs(flow="bad", status="skipped")[0]

    assert '"ZeroDivisionError"' in bad.error
    assert bad.ended_at >= bad.started_at >= bad.created_at
    assert skipped.reason.startswith("duplicate: event id")


# --- the newest first, whatever made them


@pytest.fixture
def dated(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose ids bear the turned time."""
    monkeypatch.setattr(ids, "time", SimpleNamespace(time_ns=lambda: world.clock.now() * 1000))
    monkeypatch.setattr(ids, "_ulids", ids._Ulids())
    return world


def test_runs_of_events_crons_and_lists_come_the_newest_first(dated: World) -> None:
    dated.flow(name="good", trigger="a/b")(lambda ctx: None)
    dated.flow(name="report", trigger=OnCron("0 * * * *"))(lambda ctx: None)
    dated.start_worker()
    for _ in range(20):
        dated.advance("1ms")
        dated.send([Event("a/b"), Event("a/b")])
        dated.advance("1h")

    listed = dated.flows.runs(limit=100)
    moments = [run.created_at for run in listed]

    assert len(listed) == 60
    assert moments == sorted(moments, reverse=True)


def test_what_a_step_sent_is_stored_in_the_order_of_its_list(dated: World) -> None:
    @dated.flow(name="sender", trigger="a/b")
    def sender(ctx: Any) -> list[str]:
        return ctx.step.send_event("tell", [Event("step/told", {"n": n}) for n in range(20)])

    dated.send("a/b")
    sent = dated.only_run().output

    assert sent == sorted(sent)
    assert [event.data for event in sorted(dated.events(), key=lambda e: e.id) if event.name == "step/told"] == [
        f'{{"n":{n}}}' for n in range(20)
    ]


def test_events_of_steps_and_senders_come_in_the_order_of_their_arrival(dated: World) -> None:
    @dated.flow(name="sender", trigger="a/b")
    def sender(ctx: Any) -> None:
        ctx.step.run("work", dated.clock.turn, 1_000)
        ctx.step.send_event("tell", Event("step/told"))

    for _ in range(20):
        dated.send("a/b")
        dated.clock.turn(1_000)

    by_id = sorted(dated.events(), key=lambda event: event.id)

    assert [event.name for event in by_id] == ["a/b", "step/told"] * 20
