"""Reports: pages of runs and events that neither overlap nor miss a row while others arrive."""

from collections.abc import Callable

import pytest

from celeryflows.ids import derived_id
from celeryflows.model.runs import Status
from celeryflows.store.database import Store
from celeryflows.store.reports.events import list_events, one_event, runs_of_events
from celeryflows.store.reports.runs import count_by_status, list_runs, one_run, run_events, run_steps
from tests.store.making import a_step, a_wait, an_event, put_event, put_run, running

STATUSES = (Status.QUEUED, Status.SKIPPED)


def pages(read: Callable[[str | None], list[str]], arrive: Callable[[], object]) -> list[str]:
    """All ids, page after page, while something arrives between the pages."""
    seen: list[str] = []
    cursor: str | None = None
    while page := read(cursor):
        seen += page
        cursor = page[-1]
        arrive()
    return seen


@pytest.mark.parametrize("status", [None, "queued"])
@pytest.mark.parametrize("flow", [None, "a"])
def test_pages_of_runs_do_not_overlap_while_runs_arrive(store: Store, status: str | None, flow: str | None) -> None:
    made = [(put_run(store, STATUSES[n % 2], flow="ab"[n // 2 % 2]), n) for n in range(20)]
    wanted = [
        run_id for run_id, n in made if (not status or n % 2 == 0) and (not flow or n // 2 % 2 == 0)
    ]  # fmt: skip

    def read(cursor: str | None) -> list[str]:
        return [run.id for run in list_runs(store, status=status, flow=flow, limit=3, cursor=cursor)]

    seen = pages(read, lambda: [put_run(store, flow=name) for name in "ab"])
    assert seen == sorted(wanted, reverse=True)


@pytest.mark.parametrize("name", [None, "a"])
def test_pages_of_events_do_not_overlap_while_events_arrive(store: Store, name: str | None) -> None:
    made = [(put_event(store, "ab"[n % 2]), n) for n in range(12)]
    wanted = [event_id for event_id, n in made if not name or n % 2 == 0]

    def read(cursor: str | None) -> list[str]:
        return [event.id for event in list_events(store, name=name, limit=5, cursor=cursor)]

    seen = pages(read, lambda: [put_event(store, other) for other in "ab"])
    assert seen == sorted(wanted, reverse=True)


def test_a_row_with_an_id_from_elsewhere_falls_into_one_page(store: Store) -> None:
    for n in range(10):
        put_run(store)
        put_run(store, id=derived_id("elsewhere", str(n)))

    def read(cursor: str | None) -> list[str]:
        return [run.id for run in list_runs(store, limit=3, cursor=cursor)]

    seen = pages(read, lambda: None)
    assert len(seen) == len(set(seen)) == 20


def test_our_own_events_are_listed_only_when_asked_for(store: Store) -> None:
    mine, ours = put_event(store, "flowship/sailed"), put_event(store, "flows/run.failed")
    assert [event.id for event in list_events(store)] == [mine]
    assert {event.id for event in list_events(store, own=True)} == {mine, ours}
    assert [event.id for event in list_events(store, name="flows/run.failed")] == [ours]


def test_an_event_tells_the_runs_that_it_started_and_a_run_its_event(store: Store) -> None:
    event_id, other = put_event(store, text='{"a":1}'), put_event(store)
    runs = [put_run(store, flow=flow, event_id=event_id) for flow in ("a", "b")]
    started = runs_of_events(store, [event_id, other])
    assert [(one.event_id, one.run_id, one.flow, one.status) for one in started] == [
        (event_id, runs[0], "a", "queued"),
        (event_id, runs[1], "b", "queued"),
    ]
    assert [event.data for event in run_events(store, runs[0])] == [{"a": 1}]
    shown = one_event(store, event_id)
    assert shown is not None
    assert (shown.data, shown.arrived_at is None) == ('{"a":1}', False)
    assert (one_event(store, "none"), run_events(store, "none"), runs_of_events(store, [])) == (None, [], [])


def test_an_unrouted_event_shows_that_it_has_not_arrived(store: Store) -> None:
    event = an_event()
    with store.connection() as connection:
        connection.events.add_unrouted([event])
    assert [shown.arrived_at for shown in list_events(store)] == [None]


def test_a_runs_steps_come_in_the_order_in_which_they_began(store: Store) -> None:
    claim = running(store)
    with store.connection() as connection:
        connection.steps.record(a_step(claim, "b", began=1))
        connection.steps.record(a_step(claim, "a", began=2, state="failed", value="{}"))
        connection.steps.put([a_step(claim, "paid", None, kind="wait", state="waiting", began=3, due=9)])
        wait = a_wait(claim)
        connection.waits.arm(wait)
        connection.waits.note_problem(wait.id, "no such field")
    steps = run_steps(store, claim.run_id)
    assert [(step.id, step.state, step.value) for step in steps] == [
        ("b", "done", "1"),
        ("a", "failed", "{}"),
        ("paid", "waiting", None),
    ]
    assert (steps[2].wait, steps[2].wait_name, steps[2].problem) == ("open", "shop/paid", "no such field")
    assert run_steps(store, "none") == []


def test_runs_are_counted_by_where_they_stand(store: Store) -> None:
    for status in (Status.QUEUED, Status.QUEUED, Status.SKIPPED):
        put_run(store, status)
    claim = running(store)
    assert count_by_status(store) == {"queued": 2, "skipped": 1, "running": 1}
    shown = one_run(store, claim.run_id)
    assert shown is not None
    assert (shown.status, shown.turn, shown.started_at) == ("running", 1, claim.started_at)
    assert one_run(store, "none") is None
