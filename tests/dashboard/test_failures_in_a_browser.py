"""The page of failures in a real browser over a real worker: what failed for one reason is one, and is led on from."""

import re

import pytest
from playwright.sync_api import expect

from tests.dashboard.front import address, flows, reader, started, world

__all__ = ["address", "flows", "reader", "started", "world"]
DECLINED = {"user_id": "u1", "cents": 1, "declined_until": 9, "lines": []}


@pytest.fixture
def refunds(started):
    """Three that the bank refused for their own numbers, and one that it refused by name."""
    asked = [{"order": order, "cents": 100} for order in ("4711", "4712", "a gift", "4713")]
    return [started("refund/asked", one, ends="failed") for one in asked]


def test_runs_that_failed_alike_are_one_which_grows_and_stays_open_while_one_looks(reader, started, refunds):
    page = reader.open("/failures?flow=shop.refund")
    groups = page.locator("details.group")
    expect(groups).to_have_count(2)
    many, one = groups.first, groups.last
    expect(many.locator(".count")).to_have_text("3")
    expect(many.locator("summary")).to_contain_text("CardDeclined order 4713: the bank answered 402")
    expect(many.locator("summary")).to_contain_text("shop.refund · refund card")
    expect(one.locator(".count")).to_have_text("1")
    expect(one).to_contain_text("order a gift")

    expect(many.locator(".stack")).to_be_hidden()
    many.locator("summary").click()
    expect(many.locator(".stack")).to_contain_text("raise CardDeclined")
    newest = started("refund/asked", {"order": "4714", "cents": 100}, ends="failed")
    expect(many.locator(".count")).to_have_text("4")
    expect(many.locator(".stack")).to_be_visible()
    expect(one.locator(".stack")).to_be_hidden()

    many.get_by_role("link", name="All its runs").click()
    for run in (*refunds, newest):
        expect(page.locator(f"#run-{run}")).to_be_visible()
    page.go_back()
    page.locator("details.group").first.locator("summary").click()
    page.get_by_role("link", name="Newest run").first.click()
    page.wait_for_url(f"**/runs/{newest}")


def test_a_flows_failures_are_found_and_counted_by_themselves_and_within_a_time(reader, started, world, refunds):
    other = started("order/paid", {"id": "77", **DECLINED}, ends="failed")
    page = reader.open("/failures")
    expect(page.locator("details.group .sub", has_text="shop.fulfil")).to_have_count(1)
    expect(page.locator("details.group .sub", has_text="shop.refund")).to_have_count(2)
    page.get_by_label("Flow").select_option("shop.fulfil")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url(re.compile(r"flow=shop\.fulfil"))
    group = page.locator("details.group")
    expect(group).to_have_count(1)
    expect(group).to_contain_text("charge card")
    expect(page.locator(".pager")).to_have_text("1 failed run.")

    page.get_by_label("Time").select_option("1h")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url(re.compile("range=1h"))
    expect(group).to_have_count(1)
    group.locator("summary").click()
    page.get_by_role("link", name="Newest run").click()
    page.wait_for_url(f"**/runs/{other}")

    page = reader.open("/failures?flow=shop.export")
    expect(page.locator(".empty")).to_contain_text("Nothing failed")
    expect(page.locator("details.group")).to_have_count(0)
