"""The shop's own tests: `python manage.py test`. No broker, no worker, and days pass at once."""

from django.contrib.auth.models import User
from django.core import mail
from django.test import TestCase

from celeryflows import Event
from celeryflows.testing import FlowsTester
from orders.flows import fulfil
from orders.models import Order, Stock
from shop.celery import flows


class OrderTests(TestCase):
    """From the order to its parcel."""

    def setUp(self):
        self.tester = self.enterContext(FlowsTester(flows))
        Stock.objects.create(item="tea", left=5)

    def place(self, item="tea"):
        body = {"customer": "ann@example.com", "item": item}
        return self.client.post("/orders/", body, content_type="application/json")

    def pay(self, order, id="pay_1"):
        return self.client.post("/webhooks/payments", {"id": id, "order": order}, content_type="application/json")

    def test_a_paid_order_is_sent_and_taken_from_the_stock_once(self):
        order = self.place().json()["order"]
        assert self.pay(order).status_code == 202
        self.tester.advance("1 day")

        assert self.tester.runs(fulfil)[0].output == {"left": 4}
        assert Order.objects.get().state == "sent"
        assert [letter.to for letter in mail.outbox] == [["ann@example.com"]]

    def test_an_order_without_payment_is_given_up_after_three_days(self):
        self.place()
        self.tester.advance("2 days")
        assert Order.objects.get().state == "placed"
        self.tester.advance("1 day")

        assert Order.objects.get().state == "unpaid"
        assert Stock.objects.get().left == 5

    def test_a_crash_behind_the_reservation_reserves_nothing_twice(self):
        order = self.place().json()["order"]
        self.tester.crash_after("reserve")
        self.pay(order)
        self.tester.advance("1 minute")

        assert self.tester.runs(fulfil)[0].output == {"left": 4}

    async def test_a_cancelled_order_waits_for_nothing(self):
        order = await Order.objects.acreate(customer="ann@example.com", item="tea")
        run = self.tester.start(fulfil, order=order.id, customer=order.customer)
        answer = await self.async_client.post(f"/orders/{order.id}/cancel")
        self.tester.advance("0s")

        assert answer.status_code == 202
        assert run.status == "cancelled"

    def test_a_payment_that_is_none_is_refused(self):
        assert self.client.post("/webhooks/payments", "[]", content_type="text/plain").status_code == 400

    def test_the_admin_leads_to_the_runs(self):
        self.client.force_login(User.objects.create_superuser("ann"))
        run = self.place().json()["run"]
        self.tester.advance("0s")

        assert 'href="/admin/celeryflows/dashboard/"' in self.client.get("/admin/").text
        assert f'href="/flows/runs/{run}"' in self.client.get("/admin/orders/order/").text
        assert self.client.get("/admin/celeryflows/dashboard/").headers["Location"] == "/flows/"
        assert "fulfil" in self.client.get(f"/flows/runs/{run}").text
        self.client.logout()
        assert self.client.get("/flows/").headers["Location"] == "/admin/login/?next=/flows/"

    def test_flows_are_tested_without_views_too(self):
        order = Order.objects.create(customer="bob@example.com", item="tea")
        run = self.tester.start(fulfil, Event("order/placed", {"order": order.id, "customer": order.customer}))
        self.tester.send("payment/received", {"order": order.id})

        assert run.output == {"left": 4}
