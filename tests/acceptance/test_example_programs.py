"""The programs that every team writes first: each does what its docstring says, by the commands that stand in it."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import stripe

from celeryflows.testing import FlowsTester
from tests.acceptance.playing import Play, commands_of, listening
from tests.waiting import eventually
from tests.workers import running_worker

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(
    path.stem for path in (ROOT / "examples").glob("*.py") if path.stem not in ("demo", "quickstart", "webhook")
)
# A Saturday at noon in Paris.
SATURDAY = datetime(2026, 11, 28, 11, tzinfo=UTC)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Play]]:
    """Put an example on the test kit."""
    monkeypatch.chdir(ROOT)
    with ExitStack() as stack:

        def put_on(name: str) -> Play:
            example: Any = import_module(f"examples.{name}")
            tester = stack.enter_context(FlowsTester(example.flows, at=SATURDAY))
            return Play(example, tester, capsys)

        yield put_on


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_says_what_it_is_and_how_to_run_it(name: str) -> None:
    example: ModuleType = import_module(f"examples.{name}")

    what, _, how = str(example.__doc__).partition("\n\n")
    assert len(what.split()) > 8
    assert f"celery -A examples.{name} flows dev" in how


def test_the_page_lists_every_example() -> None:
    listed = re.findall(r"\(\.\./examples/(\w+)\.py\)", (ROOT / "docs" / "examples.md").read_text())

    assert sorted(listed) == sorted([*PROGRAMS, "demo", "quickstart", "webhook"])


# -- onboarding drip


def test_the_drip_writes_until_the_two_weeks_are_over(play: Callable[..., Play]) -> None:
    drip = play("onboarding_drip")
    drip.type("user/signed.up")
    for days, mail in [("1 day", "first steps"), ("3 days", "what others build"), ("10 days", "shall we help?")]:
        assert mail not in str(drip.printed())
        drip.tester.advance(days)
        assert [line.split(": ")[1].strip() for line in drip.printed()] == [mail]

    assert drip.run("drip").output == {"active": False}


def test_the_drip_ends_with_the_users_first_project(play: Callable[..., Play]) -> None:
    drip = play("onboarding_drip")
    drip.type("user/signed.up")
    drip.tester.advance("2 days")
    drip.printed()
    drip.type("project/created")

    assert drip.printed() == ["mail to ann@example.com: well done {'project': 'garden'}"]
    assert drip.run("drip").output == {"active": True, "project": "garden"}


def test_the_drip_ends_when_the_user_unsubscribes(play: Callable[..., Play]) -> None:
    drip = play("onboarding_drip")
    drip.type("user/signed.up")
    drip.type("user/unsubscribed")
    drip.tester.advance("30 days")

    assert drip.run("drip").status == "cancelled"
    assert len(drip.printed()) == 1


# -- order


def on_the_shelf(order: Play) -> int:
    with order.tester.transaction() as connection:
        return int(connection.execute(order.example.stock.select()).one().count)


def test_an_order_is_charged_once_and_sent(play: Callable[..., Play]) -> None:
    order = play("order")
    order.type("goods/received")
    order.tester.crash_in("charge")
    order.type("order/placed")
    assert order.run("fulfil").status == "suspended"
    order.type("parcel/sent")

    assert order.run("fulfil").output == {"state": "sent", "carrier": "DHL"}
    assert on_the_shelf(order) == 4
    # The lost attempt bore the same key, so the provider has one charge.
    assert order.tester.calls("charge") == 2


def test_a_declined_card_gives_the_goods_back(play: Callable[..., Play]) -> None:
    order = play("order")
    order.type("goods/received")
    run = order.tester.start("fulfil", {"order": "o2", "item": "teapot", "card": "4000000000000002"})

    assert run.output == {"state": "given up", "reason": "the card was declined"}
    assert on_the_shelf(order) == 5
    assert order.tester.calls("refund") == 0


def test_an_order_without_a_parcel_is_undone_in_reverse(play: Callable[..., Play]) -> None:
    order = play("order")
    order.type("goods/received")
    order.type("order/placed")
    released = []
    order.tester.stub("refund", lambda charge: released.append(order.tester.calls("release")))
    order.tester.advance("5 days")

    assert order.run("fulfil").output == {"state": "given up", "reason": "no parcel in five days"}
    assert released == [0]
    assert on_the_shelf(order) == 5


def test_a_customer_may_change_their_mind_while_the_card_is_charged(play: Callable[..., Play]) -> None:
    order = play("order")
    order.type("goods/received")

    def charge(*_: Any, **__: Any) -> dict[str, str]:
        order.example.flows.send("order/cancelled", {"order": "o1"})
        return {"charge": "ch_o1"}

    order.tester.stub("charge", charge)
    order.type("order/placed")

    assert order.run("fulfil").output == {"state": "given up", "reason": "cancelled by the customer"}
    assert (order.tester.calls("refund"), on_the_shelf(order)) == (1, 5)


def test_what_is_sold_out_is_not_charged(play: Callable[..., Play]) -> None:
    order = play("order")
    run = order.tester.start("fulfil", {"order": "o3", "item": "cup", "card": "4242424242424242"})

    assert run.output == {"state": "given up", "reason": "no cup left"}
    assert order.tester.calls("charge") == 0


# -- Stripe's webhook

SECRET = "whsec_test"
INVOICE = {"id": "in_1", "object": "invoice", "customer": "cus_1", "customer_email": "ann@example.com"}


def told(kind: str, id: str) -> str:
    """What Stripe posts."""
    event = {"id": id, "object": "event", "type": kind, "created": 1, "data": {"object": INVOICE}}
    return json.dumps(event)


def post(shop: Play, body: str, secret: str = SECRET) -> int:
    """Post it signed, as Stripe does; the answer's status."""
    shop.example.web.config["STRIPE_WEBHOOK_SECRET"] = SECRET
    signature = stripe.WebhookSignature.generate_signature_header(body, secret)
    client = shop.example.web.test_client()
    status: int = client.post("/webhooks/stripe", data=body, headers={"Stripe-Signature": signature}).status_code
    shop.tester.advance("0s")
    return status


def test_a_failed_payment_that_stripe_repeats_starts_one_dunning(play: Callable[..., Play]) -> None:
    shop = play("stripe_webhook")
    for id in ("evt_1", "evt_1", "evt_1", "evt_2"):
        assert post(shop, told("invoice.payment_failed", id)) == 200

    runs = shop.tester.runs("dunning")
    assert sorted(str(run.status) for run in runs) == ["skipped"] * 3 + ["suspended"]
    assert shop.printed() == ["mail to ann@example.com: please pay"]


def test_the_payment_ends_the_dunning(play: Callable[..., Play]) -> None:
    shop = play("stripe_webhook")
    post(shop, told("invoice.payment_failed", "evt_3"))
    shop.tester.advance("4 days")
    post(shop, told("invoice.paid", "evt_4"))
    shop.tester.advance("30 days")

    assert shop.run("dunning").status == "cancelled"
    assert [line.rpartition(": ")[2] for line in shop.printed()] == ["please pay", "second reminder"]


def test_without_a_payment_the_account_is_closed(play: Callable[..., Play]) -> None:
    shop = play("stripe_webhook")
    post(shop, told("invoice.payment_failed", "evt_5"))
    shop.tester.advance("14 days")

    assert (shop.run("dunning").output, shop.printed()[-1]) == ("closed", "closed cus_1")


@pytest.mark.parametrize("body", [told("invoice.payment_failed", "evt_6"), "{", ""])
def test_what_stripe_has_not_signed_is_refused(play: Callable[..., Play], body: str) -> None:
    shop = play("stripe_webhook")

    assert post(shop, body, secret="whsec_another") == 400
    assert shop.tester.runs() == []


# -- monthly invoices


def test_customers_are_billed_in_branches_and_a_bad_row_holds_up_nobody(play: Callable[..., Play]) -> None:
    billing = play("monthly_invoices")
    billing.type("month/closed")

    assert billing.run("bill_month").output == {
        "invoices": 2,
        "total": (7.5 + 4 + 3 + 2.25) * 80,
        "to look at": [
            {"customer": "initech", "error": "hours of initech: could not convert string to float: 'eight'"}
        ],
    }
    assert billing.tester.calls("hours") == 3


# -- daily report


def test_the_report_comes_on_working_days_and_goes_on_where_the_last_one_ended(play: Callable[..., Play]) -> None:
    report = play("daily_report")
    report.tester.advance("4 days")
    mails = [line for line in report.printed() if line.startswith("mail")]

    assert mails == [
        "mail to team@example.com: since Sunday 06:00",
        "mail to team@example.com: since Monday 06:00",
        "mail to team@example.com: since Tuesday 06:00",
    ]
    assert report.run("daily_report").output["counts"] == {"daily_report completed": 1}
    report.tester.advance("5 days")
    assert "mail to team@example.com: since Friday 06:00" in report.printed()
    assert "0 7 * * 1-5" in report.type("flows cron")


# -- error alert


def test_a_failed_run_is_told_once_to_the_chat(play: Callable[..., Play], monkeypatch: pytest.MonkeyPatch) -> None:
    alerts = play("error_alert")
    with listening() as (url, chat):
        monkeypatch.setenv("ALERT_URL", url)
        alerts.type("invoice/due")
        alerts.type("invoice/due")

    first, _second = alerts.tester.runs("send_invoice")
    assert chat.posted == [{"text": f"send_invoice failed in step 'write': acme owes -5 (run {first.id})"}]
    assert [str(run.status) for run in alerts.tester.runs("alert")] == ["completed", "skipped"]


def test_an_alert_that_the_chat_does_not_take_is_tried_again(
    play: Callable[..., Play], monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = play("error_alert")
    with listening() as (url, chat):
        monkeypatch.setenv("ALERT_URL", url)
        chat.answer = lambda path, body: {} if len(chat.posted) == 3 else {}["down"]
        alerts.type("invoice/due")
        alerts.tester.advance("1m")

    assert len(chat.posted) == 3
    assert alerts.run("alert").status == "completed"


# -- approval


def test_an_expense_is_decided_by_the_link(play: Callable[..., Play]) -> None:
    desk = play("approval")
    desk.type("expense/submitted")
    client = desk.example.web.test_client()
    decision = {"approved": "no", "by": "bob"}
    assert client.post("/expenses/e7/decision", data=decision).status_code == 200
    desk.tester.advance("0s")
    assert desk.run("approve_expense").output == {"approved": False, "by": "bob"}
    assert client.post("/expenses/e7/decision", data=decision).status_code == 409


def test_an_expense_is_decided_at_a_terminal_after_the_reminder(play: Callable[..., Play]) -> None:
    desk = play("approval")
    desk.type("expense/submitted")
    desk.tester.advance("2 days")
    desk.type("flows signal")

    assert desk.run("approve_expense").output == {"approved": True, "by": "bob"}
    assert [line.rpartition(": e7: ")[2] for line in desk.printed()][:2] == ["please decide", "a last reminder"]


def test_an_expense_that_nobody_decides_is_refused(play: Callable[..., Play]) -> None:
    desk = play("approval")
    desk.type("expense/submitted")
    desk.tester.advance("3 days")

    assert desk.run("approve_expense").output == {"approved": False, "by": "nobody answered"}
    assert desk.tester.start("approve_expense", expense="e8", by="cho", amount=20).output["approved"]


# -- async agent


def model(pages: str) -> Callable[[str, Any], Any]:
    """Pages, and OpenAI's chat API: it wants two of them and a tool that is not there, and then knows."""

    def call(id: str, name: str, **arguments: str) -> dict[str, Any]:
        return {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}

    fetched = set()

    def answer(path: str, body: Any) -> Any:
        if path != "/v1/chat/completions":
            fetched.add(path)
            # No page is given before both are asked for.
            return eventually(lambda: b"x" * len(path) if len(fetched) == 2 else b"")
        results = [json.loads(message["content"]) for message in body["messages"] if message["role"] == "tool"]
        if results:
            longest = max(result["length"] for result in results if "length" in result)
            message = {"role": "assistant", "content": f"{longest}, and {results[2]}"}
        else:
            wanted = [call("a", "fetch_page", url=f"{pages}/a"), call("b", "fetch_page", url=f"{pages}/longer")]
            message = {"role": "assistant", "content": None, "tool_calls": [*wanted, call("c", "guess", at="it")]}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    return answer


def test_the_agent_calls_tools_at_once_and_pays_nothing_twice(
    play: Callable[..., Play], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = play("async_agent")
    with listening() as (url, server):
        server.answer = model(url)
        monkeypatch.setenv("MODEL_URL", f"{url}/v1")
        agent.tester.crash_after("fetch_page a")
        agent.type("question/asked")

    assert agent.run("answer").output == {"answer": "7, and {'error': \"'guess'\"}", "rounds": 5}
    assert [len(asked["messages"]) for asked in server.posted] == [1, 5]
    assert agent.tester.calls("think") == agent.tester.calls("think:1") == 1


# -- content pipeline


ARTICLE = {
    "page": "<header>Green tea. 1 min, tea, green, black</header><p>Green tea. Black tea. Rain.</p>",
    "tags": ["tea", "green", "black"],
}


def test_an_article_that_is_saved_again_is_published_as_saved_last(play: Callable[..., Play]) -> None:
    pipeline = play("content_pipeline")
    saves = ["Rooibos."]

    def minutes(text: str) -> int:
        if saves:
            pipeline.example.flows.send("article/saved", {"slug": "tea", "text": saves.pop()})
        return 1

    pipeline.tester.stub("read/minutes", minutes)
    pipeline.type("article/saved")
    old, new = pipeline.tester.runs("publish")

    assert (old.status, new.status) == ("cancelled", "completed")
    assert new.output["tags"] == ["rooibos"]


@pytest.fixture(scope="module")
def media_worker(
    redis_server: Any, broker_databases: Iterator[int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A worker of the pipeline; the environment by which it, and who types commands, find broker and store."""
    database = next(broker_databases)
    redis_server.flush(database)
    env = {"CELERY_BROKER_URL": redis_server.url(database), "XDG_STATE_HOME": str(tmp_path_factory.mktemp("media"))}
    with running_worker("examples.content_pipeline", "-c", "2", "-Q", "celery,media", env=env):
        yield env


def test_an_article_is_read_by_workers_of_its_own_queue(media_worker: dict[str, str]) -> None:
    [command] = [line for line in commands_of(import_module("examples.content_pipeline")) if " send " in line]
    typed(command, media_worker)

    def published() -> Any:
        runs = typed("celery -A examples.content_pipeline flows runs", media_worker)["runs"]
        return next((run["output"] for run in runs if run["status"] == "completed"), None)

    assert eventually(published, within=30, every=0.5) == ARTICLE


def typed(command: str, env: dict[str, str]) -> Any:
    """What the command prints as JSON, typed in a terminal of its own."""
    words = [sys.executable, "-m", *shlex.split(command), "--json"]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_example_has_its_commands_typed_here() -> None:
    typed = Path(__file__).read_text()
    lines = {line for name in PROGRAMS for line in commands_of(import_module(f"examples.{name}"))}

    asked = [line for line in lines if " flows dev" not in line]
    assert len(asked) > 10
    assert [
        line for line in asked if not any(word in typed for word in re.findall(r"flows (?:send )?(\S+)", line))
    ] == []
