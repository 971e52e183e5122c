"""`flows alerts`: the rules, what they see, and a test of their places."""

from tests.inbox import Inbox, inbox

__all__ = ["inbox"]


def test_the_rules_are_shown_with_what_they_see_and_without_addresses(terminal):
    assert terminal("alerts").stdout == "no rules; flows_alerts declares them\n"
    terminal.app.conf.flows_alerts = {"late": {"when": "backlog", "above": 1, "to": "slack://secret-token/x"}}
    terminal.app.flows.send("order/placed", {"id": 1})
    (rule,) = terminal.json("alerts")["alerts"]

    assert (rule["name"], rule["when"], rule["to"], rule["every"]) == ("late", "backlog", ["slack://…"], "15 minutes")
    assert "wait in the queue celery" in rule["sees"][0]
    assert "secret-token" not in terminal("alerts").stdout


def test_a_test_message_is_sent_to_every_place(terminal, inbox: Inbox):
    assert "no rules" in terminal.refused("alerts", "--test")
    terminal.app.conf.flows_alerts = {"a": {"when": "failed", "to": inbox.address}}
    assert terminal("alerts", "--test").stdout == "a message was sent to every place\n"
    assert [message["title"] for message in inbox.messages] == ["shop: a test"]

    inbox.refuses = 1
    assert "did not take the message" in terminal.refused("alerts", "--test")
