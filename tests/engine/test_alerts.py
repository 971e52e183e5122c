"""Alerts: what a rule sees, that a storm is one message, that a place out of order is tried again."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from celeryflows import ConfigurationError, Event, Flows, OnCron
from celeryflows.alerts import NAME, messages_of
from celeryflows.console.alerting import look, remember
from celeryflows.settings.alerts import read_alerts
from celeryflows.store.workers import WorkerRow
from celeryflows.testing import FlowsTester
from tests.inbox import inbox

__all__ = ["inbox"]


def shop(**rules: Any) -> Flows:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.flows_alerts = rules
    flows = Flows(app)

    @flows.flow(name="bill", trigger="order/placed", retries=0)
    def bill(ctx: Any) -> None:
        raise ValueError("card declined")

    @flows.flow(name="report", trigger=OnCron("0 0 1 1 *"))
    def report(ctx: Any) -> None:
        """Once a year."""

    app.finalize()
    return flows


@pytest.fixture
def world() -> Iterator[Any]:
    testers: list[FlowsTester] = []

    def make(**rules: Any) -> FlowsTester:
        tester = FlowsTester(shop(**rules))
        tester.__enter__()
        testers.append(tester)
        return tester

    yield make
    for tester in testers:
        tester.__exit__(None, None, None)


def test_a_storm_of_failures_is_one_message_and_what_follows_is_in_the_next(world, inbox):
    tester = world(broken={"when": "failed", "to": inbox.address, "every": "10m"})
    tester.send([Event("order/placed", {"n": n}) for n in range(50)])
    tester.advance("2m")
    assert len(inbox.messages) == 1
    first = inbox.messages[0]
    assert first["title"] == "shop: broken"
    assert "50 runs failed" in first["message"]
    assert "50 x bill: ValueError: card declined" in first["message"]

    tester.send("order/placed", {})
    tester.advance("5m")
    assert len(inbox.messages) == 1
    tester.advance("6m")
    assert len(inbox.messages) == 2
    assert "1 run failed" in inbox.messages[1]["message"]
    tester.advance("30m")
    assert len(inbox.messages) == 2


def test_a_place_that_is_out_of_order_is_tried_again_and_the_message_is_sent_once(world, inbox):
    tester = world(broken={"when": "failed", "to": inbox.address})
    inbox.refuses = 2
    tester.send("order/placed", {})
    tester.advance("2m")

    assert inbox.refuses == 0
    assert len(inbox.messages) == 1


def test_what_makes_no_failure_is_seen_by_the_look_of_each_minute_and_told_once(world, inbox):
    tester = world(gone={"when": "worker silent", "to": inbox.address, "every": "1h"})
    with tester._runtime.store.connection() as connection:
        connection.workers.start(WorkerRow("w1", "shop", "r", "celery@one", 7, "prefork", "celery"))
    tester.advance("5m")
    (message,) = inbox.messages
    assert "the worker celery@one (process 7) has been silent" in message["message"]


def test_rules_for_one_place_go_in_one_message():
    alarms = [["a", ["one"]], ["b", ["two", "three"]], ["gone", ["x"]]]
    places = {"a": ["x://1", "y://2"], "b": ["x://1"]}

    assert messages_of(alarms, places) == {"x://1": ["[a]", "one", "[b]", "two", "three"], "y://2": ["[a]", "one"]}


# With a rule there is the flow that listens to failures.
NEVER = {"never": {"when": "backlog", "above": 1_000_000, "to": "json://localhost"}}


def seen(tester: FlowsTester, **rule: Any) -> tuple[str, ...]:
    rules = read_alerts({"it": {"to": "json://localhost", **rule}})
    found = look(tester._runtime, rules).alarms
    return found[0].lines if found else ()


def test_each_kind_of_rule_sees_what_is_past_its_bound_and_nothing_else(world):
    tester = world(**NEVER)
    tester.send([Event("order/placed", {"n": n}) for n in range(5)])
    tester.advance("3s")
    with tester._runtime.store.connection() as connection:
        connection.workers.start(WorkerRow("w1", "shop", "r", "celery@one", 7, "prefork", "celery"))

    assert seen(tester, when="worker silent") == ()
    assert "5 runs failed" in seen(tester, when="failures", count=5, within="1m")[0]
    assert seen(tester, when="failures", count=6, within="1m") == ()
    assert "5 runs failed" in seen(tester, when="failed", flow="bill")[0]
    assert seen(tester, when="failed", flow="report") == ()
    assert seen(tester, when="backlog", above=1) == ()
    assert seen(tester, when="oldest waiting") == ()
    assert seen(tester, when="cron missed") == ()
    tester.advance("2m")
    assert "has been silent for" in seen(tester, when="worker silent")[0]
    assert seen(tester, when="failures", count=1, within="1m") == ()


def test_a_rule_that_was_told_is_quiet_for_its_time(world):
    tester = world(**NEVER)
    tester.send("order/placed", {})
    tester.advance("3s")
    rules = read_alerts({"it": {"when": "failed", "to": "json://localhost", "every": "10m"}})
    found = look(tester._runtime, rules)
    assert len(found.alarms) == 1
    remember(tester._runtime, ["it"], found.at)
    tester.send("order/placed", {})

    assert look(tester._runtime, rules).alarms == ()
    tester.advance("11m")
    assert "1 run failed" in look(tester._runtime, rules).alarms[0].lines[0]


def test_without_rules_there_is_no_flow():
    flows = shop()
    assert NAME not in flows._wiring.current.flows
    assert NAME in shop(it={"when": "failed", "to": "json://localhost"})._wiring.current.flows


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"when": "failing", "to": "json://h"}, "one of failed, failures"),
        ({"when": "failed"}, "Apprise"),
        ({"when": "failed", "to": "somewhere-secret"}, "Apprise"),
        ({"when": "failed", "to": [""]}, "environment variable"),
        ({"when": "failed", "to": "json://h", "count": 3}, "unknown entry 'count'"),
        ({"when": "failures", "to": "json://h", "count": 0}, "above 0"),
        ({"when": "backlog", "to": "json://h", "flow": "x"}, "unknown entry 'flow'"),
        ({"when": "failed", "to": "json://h", "every": 60}, "every"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_and_no_address_is_told(rule, words):
    with pytest.raises(ConfigurationError, match=words) as refused:
        read_alerts({"it": rule})
    assert "somewhere-secret" not in str(refused.value)


def test_a_rule_never_shows_its_address():
    (rule,) = read_alerts({"it": {"when": "failed", "to": "slack://token-of-slack/x"}})
    assert "token-of-slack" not in repr(rule)
    assert rule.places == ("slack://…",)
