"""Promises of lists: runs by time, event name, and a condition over event, output and error; pages stay apart."""

from datetime import UTC, datetime
from typing import Any

import pytest

from celeryflows import Debounce, Event, ExpressionError, InvalidDuration, NonRetriableError
from celeryflows.console import runs as desk
from celeryflows.console import searching
from celeryflows.console.searching import find_runs, wanted_runs
from celeryflows.durations import to_datetime
from celeryflows.store.reports import runs as listing
from tests.engine.world import World


@pytest.fixture
def shop(turned: World) -> World:
    """Paid orders come to their total, one of three fails; another flow greets who comes."""

    @turned.flow(name="shop.paid", trigger=["shop/paid", "shop/paid.again"], retries=0)
    def paid(ctx: Any) -> Any:
        n = ctx.event.data["n"]
        if n % 3 == 2:
            raise NonRetriableError(f"no stock for {n}")
        return {"total": n * 10}

    turned.flow(name="shop.greet", trigger="shop/came")(lambda ctx: "hello")
    return turned


def pay(shop: World, *numbers: int, name: str = "shop/paid") -> None:
    for n in numbers:
        shop.send(Event(name, {"n": n}))
        shop.tick()


def numbers(shop: World, **filters: Any) -> list[int]:
    """Which orders the list shows."""
    with shop.store.connection() as connection:
        events = [connection.events.get(run.event_id) for run in shop.flows.runs(**filters)]
    return [event.data["n"] for event in events if event is not None]


def moment(shop: World) -> datetime:
    return datetime.fromtimestamp(shop.clock.now() / 1_000_000, UTC)


def test_runs_are_listed_by_a_condition_over_event_output_and_error(shop: World) -> None:
    pay(shop, *range(9))
    shop.send(Event("shop/came", {"n": 8}))
    assert numbers(shop, if_exp="event.data.n > 6", flow="shop.paid") == [8, 7]
    assert numbers(shop, if_exp="output.total >= 60") == [7, 6]
    assert numbers(shop, if_exp="error.message.contains('for 5')") == [5]
    assert numbers(shop, if_exp="error != null", status="failed", limit=2) == [8, 5]
    assert numbers(shop, if_exp="output == 'hello'") == [8]
    assert numbers(shop, if_exp="event.data.nothing > 1") == []


def test_runs_are_listed_by_when_they_were_created(shop: World) -> None:
    pay(shop, 0, 1)
    shop.advance("1h")
    after = moment(shop)
    pay(shop, 2, 3)
    shop.advance("1h")
    before = moment(shop)
    pay(shop, 4)
    assert numbers(shop, after=after) == [4, 3, 2]
    assert numbers(shop, before=before) == [3, 2, 1, 0]
    assert numbers(shop, after=after.isoformat(), before=before.isoformat()) == [3, 2]
    assert numbers(shop, after=after, before=before, status="completed") == [3]


def test_a_run_under_a_callers_id_is_found_by_its_time_too(shop: World) -> None:
    shop.advance("1h")
    after = moment(shop)
    shop.flows._wiring.current.app.tasks["shop.greet"].apply_async(kwargs={"n": 1}, task_id="00-by-hand")
    shop.drain()
    assert [run.id for run in shop.flows.runs(after=after)] == ["00-by-hand"]


@pytest.fixture(params=["few", "many"])
def of_an_event(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an event's name there are few events, or many: runs are sought in another way."""
    if request.param == "many":
        monkeypatch.setattr(listing, "MANY", 1)


@pytest.mark.usefixtures("of_an_event")
def test_runs_are_listed_by_the_name_of_their_event(shop: World) -> None:
    pay(shop, 0, 1)
    pay(shop, 3, 4, name="shop/paid.again")
    assert numbers(shop, event="shop/paid.again") == [4, 3]
    assert numbers(shop, event="shop/paid", status="completed") == [1, 0]
    assert numbers(shop, event="shop/paid", limit=1) == [1]
    assert numbers(shop, event="shop/none") == []


@pytest.mark.usefixtures("of_an_event")
def test_runs_that_do_not_tell_their_events_name_are_listed_by_it(shop: World) -> None:
    pay(shop, 0, 1)
    shop.store_rows("UPDATE flows_runs SET event_name = NULL RETURNING 1")
    pay(shop, 3)
    pay(shop, 4, name="shop/paid.again")
    shop.runs()[0].rerun()
    shop.drain()
    assert numbers(shop, event="shop/paid") == [0, 3, 1, 0]
    assert numbers(shop, event="shop/paid.again") == [4]


@pytest.mark.usefixtures("of_an_event")
def test_a_debounced_run_is_listed_by_the_event_that_it_starts_with(turned: World) -> None:
    options = {"trigger": ["shop/came", "shop/went"], "debounce": Debounce("1m")}
    turned.flow(name="shop.debounced", **options)(lambda ctx: ctx.event.data["n"])
    turned.send(Event("shop/came", {"n": 1}))
    turned.send(Event("shop/went", {"n": 2}))
    turned.advance("2m")
    assert numbers(turned, event="shop/went") == [2]
    assert numbers(turned, event="shop/came") == []


def test_pages_under_a_condition_neither_overlap_nor_lose_a_run_while_runs_arrive(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "PIECE", 3)
    monkeypatch.setattr(searching, "LOOK", 6)
    pay(shop, *range(20))
    wanted = wanted_runs(flow="shop.paid", if_exp="event.data.n % 2 == 0", before=moment(shop))
    seen: list[str] = []
    cursor, pages = None, 0
    while True:
        rows, cursor = find_runs(shop.runtime, wanted, limit=2, cursor=cursor)
        assert len(rows) <= 2
        seen += [row.id for row in rows]
        pages += 1
        if cursor is None:
            break
        pay(shop, 100 + pages)
    even = [run.id for run in reversed(shop.runs("shop.paid")) if run.id in set(seen)]
    assert len(seen) == 10
    assert seen == even


def test_a_page_of_the_desk_under_a_condition_may_be_short_and_tells_where_to_go_on(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "PIECE", 2)
    monkeypatch.setattr(searching, "LOOK", 4)
    pay(shop, *range(10))
    wanted = wanted_runs(if_exp="event.data.n == 0")
    page = desk.runs(shop.runtime, wanted, limit=5)
    assert (page.items, page.next is None) == ((), False)
    again = desk.runs(shop.runtime, wanted, limit=5, cursor=page.next)
    last = desk.runs(shop.runtime, wanted, limit=5, cursor=again.next)
    assert [run.output for run in last.items] == [{"total": 0}]
    assert numbers(shop, if_exp="event.data.n == 0") == [0], "who asks for runs gets them, however far away"


@pytest.mark.parametrize(
    ("filters", "error"),
    [
        ({"if_exp": "event.data.n >"}, ExpressionError),
        ({"if_exp": "run.id == 'x'"}, ExpressionError),
        ({"if_exp": "[1].map(x, [2].map(y, x + y)) == event.data.n"}, ExpressionError),
        ({"after": "yesterday"}, InvalidDuration),
        ({"before": "2024-01-01T00:00:00"}, InvalidDuration),
        ({"status": "done"}, ValueError),
    ],
)
def test_what_cannot_be_asked_for_is_refused(shop: World, filters: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        shop.flows.runs(**filters)


def test_what_was_made_before_a_moment_is_found_by_ids_that_tell_time_and_by_a_callers_own(shared: World) -> None:
    task = shared.flow(name="shop.greet", trigger="shop/came")(lambda ctx: "hello")
    task.apply_async(task_id="of a caller's own")
    shared.send(Event("shop/came", {}))
    (early,) = (run.id for run in shared.runs() if run.id != "of a caller's own")
    with shared.store.connection() as connection:
        moment = to_datetime(connection.now())
    task.apply_async(task_id="a later one")
    shared.send(Event("shop/came", {}))

    found = shared.flows.runs(before=moment)
    assert [run.id for run in found] == ["of a caller's own", early]
    (first,) = shared.flows.runs(before=moment, limit=1)
    assert [run.id for run in shared.flows.runs(before=moment, cursor=first.id)] == [early]
    assert len(shared.flows.runs(after=moment)) == 2
