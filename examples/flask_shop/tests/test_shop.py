"""The shop's own tests: `python -m pytest`. No broker, no worker, and days pass at once."""

import pytest

from celeryflows.testing import FlowsTester
from shop import create_app
from shop.flows import flows
from shop.models import Order, Stock, db


@pytest.fixture
def client(tmp_path):
    app = create_app(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'shop.sqlite3'}", TESTING=True)
    with app.app_context():
        db.create_all()
        db.session.add(Stock(item="tea", left=5))
        db.session.commit()
        yield app.test_client()
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def tester(client):
    with FlowsTester(flows, engine=db.engine) as tester:
        yield tester


def place(client, item="tea"):
    return client.post("/orders/", json={"customer": "ann@example.com", "item": item})


def state(order):
    db.session.expire_all()
    return db.session.get(Order, order).state


def test_a_paid_order_is_sent_and_taken_from_the_stock_once(client, tester):
    order = place(client).json["order"]
    tester.crash_after("reserve")
    for _ in range(2):
        assert client.post("/webhooks/payments", json={"id": "pay_1", "order": order}).status_code == 202
    tester.advance("1 minute")

    assert [run.output for run in tester.runs()] == [{"left": 4}]
    assert (state(order), db.session.get(Stock, "tea").left) == ("sent", 4)


def test_a_crash_before_the_reservation_is_committed_takes_nothing_twice(client, tester):
    order = place(client).json["order"]
    tester.crash_in("reserve")
    client.post("/webhooks/payments", json={"id": "pay_1", "order": order})
    tester.advance("1 minute")

    assert (tester.calls("reserve"), state(order), db.session.get(Stock, "tea").left) == (2, "sent", 4)


def test_an_order_without_payment_is_given_up_after_three_days(client, tester):
    order = place(client).json["order"]
    tester.advance("2 days")
    assert state(order) == "placed"
    tester.advance("1 day")

    assert state(order) == "unpaid"


def test_an_order_that_is_rolled_back_starts_nothing(client, tester):
    answer = place(client, "gold")
    tester.advance("0s")

    assert (answer.status_code, tester.runs()) == (409, [])


def test_a_cancelled_order_waits_for_nothing(client, tester):
    order = place(client).json["order"]
    tester.advance("0s")
    assert client.post(f"/orders/{order}/cancel").status_code == 202
    tester.advance("0s")

    assert [run.status for run in tester.runs()] == ["cancelled"]


@pytest.mark.parametrize("body", ["", "[]", '{"id": 7}'])
def test_what_is_no_payment_is_refused(client, tester, body):
    assert client.post("/webhooks/payments", data=body, content_type="application/json").status_code == 400
