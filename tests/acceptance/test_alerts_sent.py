"""Alerts of real workers: each kind of rule sees what really went wrong, Apprise sends it to a webhook and by mail, a
storm is one message that says how much it was, and a place that does not take it is asked again."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from celeryflows import Event
from celeryflows.alerts import NAME
from tests.acceptance.crew import Crew
from tests.celery.apps.watched import SHEET
from tests.inbox import Inbox, running_inbox
from tests.mailbox import Mailbox, running_mailbox
from tests.waiting import eventually
from tests.worlds import BRISK, World

STORM = 500
YEAR_US = 365 * 86_400 * 1_000_000
# What each rule watches; its name is the path that it is told at.
RULES: dict[str, dict[str, Any]] = {
    "failed": {"when": "failed", "flow": "watched.bill"},
    "failures": {"when": "failures", "count": STORM, "within": "1 hour"},
    "rate": {"when": "failure rate", "above": 0.5, "at_least": STORM},
    "backlog": {"when": "backlog", "above": 20},
    "oldest": {"when": "oldest waiting", "longer": "1s"},
    "silent": {"when": "worker silent"},
    "cron": {"when": "cron missed", "by": "5 minutes"},
    "never": {"when": "failures", "count": STORM * 10, "within": "1 hour"},
}


@pytest.fixture(scope="module")
def inbox() -> Iterator[Inbox]:
    with running_inbox() as inbox:
        yield inbox


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with running_mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def world(make_world, inbox, mailbox) -> World:
    rules = {name: {**rule, "every": "1 hour", "to": inbox.address_of(name)} for name, rule in RULES.items()}
    rules["mailed"] = {"when": "failures", "count": STORM, "within": "1 hour", "to": mailbox.address, "every": "1 hour"}
    # Two rules for one place.
    for name in ("worker", "queue"):
        rules[name] = {**rules["silent" if name == "worker" else "backlog"], "to": inbox.address_of("both")}
    return make_world("postgres", flows_alerts=rules, **BRISK)


@pytest.fixture(scope="module")
def storm(world, inbox, mailbox) -> Iterator[None]:
    """All of it at once: failures, a queue without workers, a worker that is killed, a cron that nobody fired."""
    flows = world.app(SHEET).flows
    inbox.refuses_at["failures"] = mailbox.refuses = 2
    with ExitStack() as stack:
        crew = Crew(world, stack, "tests.celery.apps.watched")
        killed = crew.hire("-P", "solo", "-Q", "nothing")
        crew.kill(killed)
        flows.send([Event("order/kept", {"n": n}) for n in range(30)])
        world.rows(f"UPDATE flows_crons SET next_at = next_at - {YEAR_US} WHERE flow = 'watched.inventory' RETURNING 1")
        crew.hire("-P", "threads", "-c", "8")
        flows.send([Event("order/placed", {"n": n}) for n in range(STORM)])
        failed = "SELECT count(*) FROM flows_runs WHERE flow = 'watched.bill' AND status = 'failed'"
        eventually(lambda: world.rows(failed)[0][0] == STORM, within=60.0, every=0.1)
        eventually(lambda: inbox.at("failures") and mailbox.mails, within=40.0, every=0.1)
        # The leader counts what it has counted before, and the next failure has the rules looked at again.
        world.rows("UPDATE flows_figures SET next_at = 0 WHERE flow = '' RETURNING 1")
        counted = "SELECT sum(failed) FROM flows_figures WHERE flow = 'watched.bill'"
        eventually(lambda: (world.rows(counted)[0][0] or 0) >= STORM, within=30.0, every=0.1)
        flows.send(Event("order/placed", {"n": STORM}))
        eventually(lambda: all(inbox.at(name) for name in RULES if name != "never"), within=40.0, every=0.1)
        yield


def test_a_storm_of_failures_is_one_message_that_says_how_many_there_were(storm, inbox):
    (message,) = inbox.at("failures")
    assert f"{STORM} runs failed" in message
    assert f"{STORM} x watched.bill: ValueError: card declined (run " in message
    (message,) = inbox.at("failed")
    assert "x watched.bill: ValueError: card declined (run " in message


def test_mail_is_sent_too_and_a_server_that_was_busy_is_asked_again(storm, mailbox):
    (mail,) = mailbox.mails
    assert (mail["To"], mail["Subject"]) == ("ann@shop.example", mail["Subject"])
    assert "watched: " in mail["Subject"]
    assert f"{STORM} runs failed" in str(mail.get_body(("plain", "html")))
    assert mailbox.refuses == 0


def test_the_rate_of_failures_is_told(storm, inbox):
    (message,) = inbox.at("rate")
    told = re.search(r"100% of (\d+) runs of the last hour failed, over 50%", message)
    # With those of other flows that have ended by then.
    assert told is not None
    assert STORM <= int(told[1]) < STORM + 10


def test_a_queue_without_workers_is_told_by_its_length_and_by_its_oldest(storm, inbox):
    (message,) = inbox.at("backlog")
    assert "30 runs wait in the queue archive, served by 0 workers" in message
    (message,) = inbox.at("oldest")
    assert "in the queue archive" in message


def test_a_worker_that_was_killed_is_told(storm, inbox):
    (message,) = inbox.at("silent")
    assert "has been silent for" in message


def test_a_cron_that_nobody_fired_is_told_though_the_next_worker_made_up_for_it(storm, inbox, world):
    (message,) = inbox.at("cron")
    assert "no worker was there at" in message
    assert "for the cron 0 3 1 1 * of watched.inventory" in message
    assert world.rows("SELECT count(*) FROM flows_runs WHERE flow = 'watched.inventory'") == [(1,)]


def test_rules_for_one_place_are_one_message(storm, inbox):
    (message,) = inbox.at("both")
    assert "[worker]" in message
    assert "[queue]" in message


def test_a_rule_that_is_not_past_its_bound_tells_nobody(storm, inbox):
    assert inbox.at("never") == []


def test_each_sending_is_a_step_of_a_run_that_was_tried_until_its_place_took_it(storm, inbox, world):
    assert inbox.refuses_at["failures"] == 0
    rows = world.rows(
        "SELECT max(s.attempts), count(*) FROM flows_steps s JOIN flows_runs r ON r.id = s.run_id "
        "WHERE r.flow = :flow AND s.key LIKE 'send %' AND s.state = 'done'",
        flow=NAME,
    )
    attempts, sendings = rows[0]
    assert attempts == 3
    assert sendings == len(inbox.messages) + 1
    assert world.rows("SELECT count(*) FROM flows_runs WHERE flow = :flow AND status = 'failed'", flow=NAME) == [(0,)]
