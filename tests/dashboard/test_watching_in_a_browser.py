"""Alerts and audit in a real browser, and what every page keeps: keys, focus, and room on a phone."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from celeryflows import Event, Flows
from celeryflows.console.audit import audit, audited
from tests.dashboard.browsing import Reader, served
from tests.inbox import Inbox, inbox

__all__ = ["inbox"]
PAGES = ("runs", "events", "flows", "flows/greet", "failures", "figures", "limits", "workers", "replays", "alerts")
PAGES += ("audit", "send", "runs-filtered")


@pytest.fixture
def watched(shop: Flows, inbox: Inbox) -> Flows:
    """The shop with rules, one of which is past its bound."""
    shop._wiring.current.app.conf.flows_alerts = {
        "line": {"when": "backlog", "above": 2, "to": inbox.address},
        "gone": {"when": "worker silent", "to": "slack://secret-token/b/c", "every": "5 minutes"},
    }
    shop.send([Event("user/came", {"n": n}) for n in range(3)])
    return shop


@pytest.fixture
def address(watched: Flows) -> Iterator[str]:
    with served(watched) as address:
        yield address


@pytest.fixture
def reader(chromium: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Reader]:
    reader = Reader(chromium, address, **getattr(request, "param", {}))
    yield reader
    reader.close()
    assert reader.complaints == []


def test_rules_show_how_they_stand_and_a_test_message_reaches_their_places(reader, inbox, watched):
    watched._wiring.current.app.conf.flows_alerts = {"line": {"when": "backlog", "above": 2, "to": inbox.address}}
    page = reader.open("/alerts")
    row = page.locator("tbody tr", has_text="line")
    expect(row).to_contain_text("past its bound")
    expect(row).to_contain_text("3 runs wait in the queue celery")
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_role("status")).to_contain_text("A message was sent to every place.")
    assert [message["title"] for message in inbox.messages] == ["shop: a test"]

    inbox.refuses = 1
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_role("status")).to_contain_text("did not take the message")
    page.get_by_role("link", name="Audit").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("tbody tr").first).to_contain_text("try alerts")
    expect(page.locator("tbody tr").first.locator(".status")).to_have_text("done")


def test_the_audit_shows_who_did_what_and_leads_to_all_that_one_did(reader, watched):
    for who, action in (("ann@host", "prune"), ("ben", "pause_flow")):
        with audited(watched.runtime, who=who, via="terminal", action=action, subject="<b>greet</b>"):
            pass
    with pytest.raises(ZeroDivisionError), audited(watched.runtime, who="ben", via="rest", action="x", subject="r"):
        raise ZeroDivisionError
    assert len(audit(watched.runtime).items) == 3
    page = reader.open("/audit")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first.locator(".status.failed")).to_have_text("refused: ZeroDivisionError")
    expect(rows.last).to_contain_text("<b>greet</b>")
    page.get_by_role("link", name="ann@host").click()
    expect(rows).to_have_count(1)
    page.get_by_role("link", name="By all").click()
    expect(rows).to_have_count(3)


def test_the_keyboard_leads_everywhere_and_shows_where_it_is(reader):
    page = reader.open("/runs")
    page.keyboard.press("/")
    focused = "document.activeElement.tagName"
    assert page.evaluate(focused) == "INPUT"
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == "BODY"
    for letter, path in (("a", "alerts"), ("u", "audit"), ("l", "limits"), ("w", "workers")):
        page.keyboard.press("g")
        page.keyboard.press(letter)
        page.wait_for_url(re.compile(f"/{path}$"))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("audit")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("reader", [{"width": 390}, {"width": 390, "theme": "dark"}], indirect=True)
def test_on_a_phone_no_page_is_wider_than_it_and_the_way_to_the_others_is_a_line(reader, watched):
    with audited(watched.runtime, who="ann", via="page", action="cancel_runs", subject="long " * 60):
        pass
    for path in PAGES:
        page = reader.open(f"/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        cut = "[...document.querySelectorAll('.cards td')].filter(td => td.getBoundingClientRect().right > innerWidth)"
        assert page.evaluate(f"{cut}.map(td => td.textContent)") == [], path
        nav = page.locator("nav.side")
        assert nav.bounding_box()["height"] < 60, path
        here = nav.locator("[aria-current]")
        if here.count():
            box = here.bounding_box()
            assert 0 <= box["x"] <= 390 - box["width"], path
