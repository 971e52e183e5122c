"""Runs of many steps: a page shows a part of them, and opens where there is something to be seen."""

import html
import re
from dataclasses import replace
from typing import Any

import pytest

from celeryflows.console.run_pages import STEPS_AT_ONCE
from celeryflows.engine.turn import take_turn

MANY = 2 * STEPS_AT_ONCE + 100


def refused(n: int) -> int:
    raise ValueError(f"step {n} is refused")


@pytest.fixture
def long(shop):
    """Runs of many steps. `fails`: at which; `waits`: after the last of them."""

    @shop.flow(name="long", trigger="long/asked", retries=0)
    def long(ctx: Any) -> None:
        for n in range(MANY):
            ctx.step.using(retries=0).run(f"step {n}", refused if n == ctx.event.data.get("fails") else int, n)
        if ctx.event.data.get("waits"):
            ctx.step.wait_for_signal("word", "a word", timeout="1h")

    def run(**data: object) -> str:
        shop.send("long/asked", data)
        (run_id,) = [one.id for one in shop.runs(flow="long", status="queued")]
        take_turn(shop.runtime, run_id)
        return run_id

    return run


def shown(page: str) -> tuple[list[str], str]:
    """The steps of the picture, and what it says of the others."""
    rows = [html.unescape(key) for key in re.findall(r'id="row-([^"]+)"', page)]
    return rows, " ".join(re.findall(r"Steps \d+ to \d+ of \d+", page)[:1])


def part(first: int, count: int = STEPS_AT_ONCE) -> list[str]:
    return [f"step {n}" for n in range(first, first + count)]


def test_all_steps_of_a_long_run_are_reached_part_by_part(long, browser):
    page, seen = browser.get(f"/runs/{long()}").text, []
    while True:
        rows, says = shown(page)
        assert says == f"Steps {len(seen) + 1} to {len(seen) + len(rows)} of {MANY}"
        seen += rows
        later = re.search(r'href="([^"]+)" data-swap>Later<', page)
        if later is None:
            break
        page = browser.get(html.unescape(later[1])).text
    assert seen == part(0, MANY)
    assert ">Earlier<" in page
    assert ">First<" in page


def test_a_long_run_opens_at_the_step_that_is_asked_for(long, browser):
    page = browser.get(f"/runs/{long()}?step=step+{MANY - 1}").text
    assert shown(page)[0] == part(2 * STEPS_AT_ONCE, 100)
    assert f'<h2 class="clip">step {MANY - 1}</h2>' in page


def test_a_long_run_that_failed_opens_where_it_failed(long, browser):
    page = browser.get(f"/runs/{long(fails=STEPS_AT_ONCE + 7)}").text
    assert shown(page)[0] == part(STEPS_AT_ONCE, 8)


def test_a_long_run_that_goes_on_opens_at_its_end(long, browser):
    page = browser.get(f"/runs/{long(waits=True)}").text
    assert shown(page)[0] == [*part(2 * STEPS_AT_ONCE, 100), "word"]


def test_a_run_that_is_near_its_bound_of_steps_says_so_while_it_is_under_way(long, shop, browser, monkeypatch):
    waits, done = long(waits=True), long()
    monkeypatch.setattr(shop.runtime, "settings", replace(shop.runtime.settings, max_steps=MANY + 50))
    assert f"{MANY + 1} steps; 49 more and it fails" in browser.get(f"/runs/{waits}").text
    assert "more and it fails" not in browser.get(f"/runs/{done}").text
    monkeypatch.setattr(shop.runtime, "settings", replace(shop.runtime.settings, max_steps=2 * MANY))
    assert "more and it fails" not in browser.get(f"/runs/{waits}").text


def test_the_axis_of_a_part_counts_from_the_start_of_the_run(long, browser):
    run_id = long()
    first, later = (browser.get(f"/runs/{run_id}?from={n}").text for n in (0, STEPS_AT_ONCE))
    ticks = [re.search(r'<i class="t0">([^<]+)</i>', page)[1] for page in (first, later)]
    assert ticks[1] not in (ticks[0], "0")


def test_a_short_run_says_nothing_of_parts(shop, browser):
    shop.send("user/came", {})
    (run,) = shop.runs()
    take_turn(shop.runtime, run.id)
    assert shown(browser.get(f"/runs/{run.id}?from=99").text) == ([], "")
