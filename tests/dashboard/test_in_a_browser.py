"""The pages in a real browser over a real worker: what is seen, what can be done, and what never runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import expect

from celeryflows import Event
from tests.dashboard.browsing import Reader
from tests.dashboard.front import address, flows, reader, started, world
from tests.waiting import eventually

__all__ = ["address", "flows", "reader", "started", "world"]

SCRIPT = "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>"
ROOT = Path(__file__).resolve().parents[2]
COPIED = """
import pytest
from tests.celery.apps.store_front import SHEET


@pytest.fixture
def flows():
    return SHEET.make({"broker_url": "memory://"}).flows
"""
ORDER = {"id": "7", "user_id": "u7", "cents": 4900, "declined_until": 1, "lines": [{"sku": "mug", "pieces": 2}]}


def test_runs_appear_live_and_move_on_while_one_looks(reader, started):
    page = reader.open("/runs")
    run = started("user/signed.up", {"user_id": "u1", "name": "Ann", "email": "ann@example.com"}, ends=None)
    row = page.locator(f"#run-{run}")
    expect(row).to_contain_text("shop.onboarding")
    expect(row).to_contain_text("completed")


def test_a_run_is_found_by_filters_and_opened_with_its_steps_on_one_axis(reader, started):
    run = started("order/paid", {**ORDER, "cents": 123456})
    started("order/paid", {**ORDER, "cents": 5})
    page = reader.open("/runs")
    page.get_by_label("Condition").fill("event.data.cents > 100000")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator(f"#run-{run} [data-open]").click()

    for step in ("charge card", "reserve mug", "ship", "tell the customer"):
        expect(page.locator(".bar-row", has_text=step)).to_have_count(1)
    charge = page.locator(".bar-row", has_text="charge card")
    expect(charge).to_contain_text("attempt 2")
    expect(charge.locator("rect.work.failed")).to_have_count(1)
    expect(charge.locator("rect.backoff")).to_have_count(1)
    expect(charge.locator("rect.work.completed")).to_have_count(1)
    expect(page.locator(".bar-row", has_text="ship").locator("rect.child")).to_have_count(1)

    charge.click()
    detail = page.locator("#detail")
    expect(detail).to_contain_text('"charge": "ch_7"')
    detail.locator("summary", has_text="CardDeclined").click()
    expect(detail).to_contain_text("raise CardDeclined")


def test_runs_are_found_between_two_moments_in_the_readers_own_zone(reader, started):
    run = started("user/signed.up", {"user_id": "u0", "name": "Fay", "email": "fay@example.com"})
    page = reader.open("/runs")
    page.get_by_label("Time").select_option("custom")
    page.locator("[data-moment=after]").fill("2020-01-01T00:00:00")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**after=2020-01-01T00*")
    expect(page.locator(f"#run-{run}")).to_be_visible()
    expect(page.locator("[data-moment=after]")).to_have_value(re.compile("2020-01-01T00:00"))
    page.locator("[data-moment=before]").fill("2020-01-02T00:00:00")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".empty")).to_be_visible()


def test_a_filter_that_cannot_be_read_says_what_is_wrong(reader):
    page = reader.open("/runs?if=event.data.total+%3E")
    expect(page.locator(".wrong").first).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(0)


def test_a_run_that_waits_is_cancelled_by_its_button(reader, started, world):
    run = started("review/asked", {"user_id": "u8"}, ends="suspended")
    page = reader.open(f"/runs/{run}")
    page.locator(".bar-row", has_text="moderator").click()
    expect(page.locator("#detail")).to_contain_text("review u8")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_contain_text("cancelled")
    assert world.status(run) == "cancelled"


def test_a_run_is_run_again_whole_and_from_a_step_with_edited_input(reader, started):
    run = started("user/signed.up", {"user_id": "u2", "name": "Ben", "email": "ben@example.com"})
    page = reader.open(f"/runs/{run}")
    page.get_by_role("button", name="Rerun", exact=True).click()
    expect(page.locator("h1")).to_contain_text("completed")
    expect(page.locator("dl.facts")).to_contain_text("Rerun of")

    reader.open(f"/runs/{run}?step=send+welcome")
    page.get_by_role("button", name="Rerun from").click()
    dialog = page.locator("#rerun-step")
    expect(dialog.locator("select")).to_have_value("send welcome")
    dialog.locator("textarea").fill('{"args": [{"edited": true}, "eve@example.com"]}')
    dialog.get_by_role("button", name="Rerun from here").click()
    expect(page.locator("h1")).to_contain_text("completed")
    expect(page.locator(".bar-row", has_text="render welcome")).to_contain_text("kept")
    page.locator(".bar-row", has_text="send welcome").click()
    expect(page.locator("#detail")).to_contain_text("eve@example.com")


def test_a_run_becomes_a_test_that_passes(reader, started, flows, tmp_path):
    run = started("order/paid", ORDER)
    reader.open(f"/runs/{run}").get_by_role("link", name="Copy as test").click()
    code = reader.page.locator("#code").text_content() or ""
    assert "flows_tester.start('shop.fulfil'" in code
    (tmp_path / "conftest.py").write_text(COPIED)
    (tmp_path / "test_copied.py").write_text(code)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout


def test_an_event_is_written_with_wrong_json_told_then_sent_and_shows_its_run(reader):
    page = reader.open("/send")
    page.get_by_label("Name").fill("user/signed.up")
    editor = page.locator("textarea[name=data]")
    editor.fill("{oops")
    expect(page.locator("[data-wrong]").first).not_to_be_empty()
    editor.fill('{"user_id": "u3", "name": "Cleo", "email": "cleo@example.com"}')
    expect(page.locator("[data-wrong]").first).to_be_empty()
    expect(page.locator("#python")).to_contain_text('"name": "Cleo"')
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".notice")).to_contain_text("started 1 run")
    expect(page.locator("#live")).to_contain_text("shop.onboarding")
    expect(page.locator("#live")).to_contain_text("completed")


def test_an_event_is_sent_again_and_replayed_to_one_flow(reader, started, world):
    run = started("refund/asked", {"order": "9", "cents": 100}, ends="failed")
    (row,) = world.rows("SELECT event_id FROM flows_runs WHERE id = :id", id=run)
    page = reader.open(f"/events/{row[0]}")
    page.get_by_role("button", name="Send again").click()
    expect(page.locator(".notice")).to_contain_text("Sent again")
    assert row[0] not in page.url
    page.locator("details.menu summary").click()
    page.get_by_label("Flow").select_option("shop.stock_report")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("h1")).to_contain_text("shop.stock_report")
    expect(page.locator("h1")).to_contain_text("completed")


def test_a_flow_is_paused_resumed_and_invoked(reader, started, world):
    page = reader.open("/flows/shop.ask_review")
    page.locator("details.menu summary", has_text="Pause").click()
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("h1")).to_contain_text("paused")
    run = started("review/asked", {"user_id": "u4"}, ends="skipped")
    assert "paused" in (reader.open(f"/runs/{run}").locator(".notice").text_content() or "")

    reader.open("/flows/shop.ask_review")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("h1")).not_to_contain_text("paused")
    page.get_by_role("button", name="Invoke").click()
    page.locator("#invoke textarea").fill('{"user_id": "u5"}')
    page.locator("#invoke").get_by_role("button", name="Invoke").click()
    expect(page.locator("h1")).to_contain_text("suspended")


def test_what_is_filtered_is_cancelled_and_replayed_as_a_whole(reader, started, world):
    waiting = [started("review/asked", {"user_id": f"bulk{n}"}, ends=None) for n in range(3)]
    for run in waiting:
        world.ends(run, "suspended")
    condition = "event.data.user_id.startsWith('bulk')"
    page = reader.open("/runs?flow=shop.ask_review")
    page.get_by_label("Condition").fill(condition)
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name=re.compile("Cancel or replay")).click()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel 3 runs").click()
    expect(page.locator(".notice")).to_contain_text("3 runs are cancelled")

    page.locator(".tabs a", has_text="Cancelled").click()
    page.get_by_role("link", name=re.compile("Cancel or replay")).click()
    page.get_by_role("button", name="Replay 3 runs").click()
    expect(page.locator("#live")).to_contain_text("3 of 3")


def test_a_script_in_names_payloads_and_errors_stays_text_on_every_page(reader, started, flows, world):
    hostile = {"user_id": SCRIPT, "name": SCRIPT, "email": SCRIPT, SCRIPT: SCRIPT}
    flows.send(Event(f"x/{SCRIPT}", {SCRIPT: SCRIPT}, id=SCRIPT))
    run = started("user/signed.up", hostile)
    failed = started("refund/asked", {"order": SCRIPT, "cents": 1}, ends="failed")
    page = reader.open(f"/runs/{run}?step=render+welcome")
    expect(page.locator("#step-output")).to_contain_text("<script>")
    for path in (
        "/runs",
        f"/runs/{run}",
        f"/runs/{run}/test",
        f"/runs/{failed}?step=refund+card",
        "/events",
        "/failures",
    ):
        page = reader.open(path)
        page.wait_for_load_state("networkidle")
        assert "broken in" not in page.title()
        assert page.locator("img").count() == 0
    (row,) = world.rows("SELECT event_id FROM flows_runs WHERE id = :id", id=run)
    expect(reader.open(f"/events/{row[0]}").locator("#event-data")).to_contain_text("onerror")


def test_every_page_stands_in_both_themes_and_on_a_phone(chromium, address, started):
    run = started("order/paid", ORDER)
    paths = ["/runs", f"/runs/{run}?step=charge+card", "/events", "/send", "/flows", "/flows/shop.fulfil", "/failures"]
    paths += ["/figures", "/limits", "/workers", "/replays", "/runs-filtered?flow=shop.refund"]
    for theme, width in (("light", 1280), ("dark", 390)):
        reader = Reader(chromium, address, theme=theme, width=width)
        for path in paths:
            page = reader.open(path)
            expect(page.locator("h1")).to_be_visible()
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} is {wide} wide on {width}"
        assert reader.complaints == []
        reader.close()


def test_the_keyboard_goes_along_rows_and_to_pages_and_the_theme_stays(reader, started):
    started("user/signed.up", {"user_id": "u6", "name": "Dan", "email": "dan@example.com"})
    page = reader.open("/runs")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("tr[data-here]")).to_have_count(1)
    page.keyboard.press("k")
    first = page.locator("tbody tr").first
    expect(first).to_have_attribute("data-here", "")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/*")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.keyboard.press("g")
    page.keyboard.press("f")
    page.wait_for_url("**/flows")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    reader.open("/runs").keyboard.press("/")
    expect(page.get_by_label("Condition")).to_be_focused()


def test_workers_limits_and_figures_show_what_is_there(reader, started, world):
    run = started("review/asked", {"user_id": "u9"}, ends="suspended")
    expect(reader.open("/workers").locator("#live")).to_contain_text("alive")
    expect(reader.page.locator("#live")).to_contain_text("leads")
    started("refund/asked", {"order": "4711", "cents": 100}, ends="failed")
    eventually(lambda: world.rows("SELECT failed FROM flows_figures WHERE flow = 'shop.refund'"), within=30.0)
    expect(reader.open("/flows").locator("tr", has_text="shop.refund")).to_contain_text("100 %")
    assert json.loads(json.dumps(run))
