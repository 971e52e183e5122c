"""A shop for the dashboard: one of each kind of step, failures, limits, a cron, runs that invoke runs."""

import time
from functools import partial

from celeryflows import Backoff, Concurrency, Event, OnCron, OnEvent, Throttle
from tests.celery.apps.sheet import Sheet

SHEET = Sheet("shop")
SOON = Backoff(first="400ms", factor=2, max="2s", jitter=0)


class CardDeclined(Exception):
    """The bank says no."""


def render(template: str, **values: str) -> dict[str, object]:
    """A mail's text."""
    time.sleep(0.03)
    return {"template": template, "subject": f"Welcome, {values['name']}", "bytes": 2048}


def deliver(mail: dict[str, object], to: str) -> dict[str, object]:
    """Hand it over."""
    time.sleep(0.06)
    return {"accepted": [to], "message_id": f"<{to}>"}


def reserve(sku: str, pieces: int) -> dict[str, object]:
    """Take it from the shelf."""
    time.sleep(0.05 + 0.02 * pieces)
    return {"sku": sku, "pieces": pieces, "shelf": "B-12"}


def charge(order_id: str, cents: int, attempt: int, declined_until: int) -> dict[str, object]:
    """Ask the bank."""
    time.sleep(0.04)
    if attempt < declined_until:
        raise CardDeclined(f"order {order_id}: the bank answered 402 (insufficient funds)")
    return {"charge": f"ch_{order_id}", "cents": cents, "currency": "EUR"}


@SHEET.flow(trigger="user/signed.up", label="Onboarding")
def onboarding(ctx):
    """Welcome a new user, and nudge them if they have not ordered."""
    user = ctx.event.data
    mail = ctx.step.run("render welcome", render, "welcome", name=user["name"])
    ctx.step.run("send welcome", deliver, mail, user["email"])
    ctx.step.sleep("let them look around", user.get("settle", "600ms"))
    order = ctx.step.wait_for_event(
        "first order", event="order/paid", match="data.user_id", timeout=user.get("patience", "1s")
    )
    if order is None:
        ctx.step.run("send nudge", deliver, mail, user["email"])
    return {"ordered": order is not None}


@SHEET.flow(trigger="order/paid", label="Fulfilment", retries=3, backoff=SOON, concurrency=Concurrency(4))
def fulfil(ctx):
    """Charge, reserve every line at once, then ship."""
    order = ctx.event.data
    paid = ctx.step.run(
        "charge card",
        lambda: charge(order["id"], order["cents"], ctx.attempt, order.get("declined_until", 0)),
    )
    lines = ctx.group.parallel(
        [
            partial(ctx.step.run, f"reserve {line['sku']}", reserve, line["sku"], line["pieces"])
            for line in order["lines"]
        ]
    )
    parcel = ctx.step.invoke("ship", "shop.ship", {"order": order["id"], "lines": len(lines)}, timeout="1 day")
    ctx.step.send_event("tell the customer", Event("parcel/sent", {"order": order["id"], **parcel}))
    return {"charge": paid["charge"], "parcel": parcel["tracking"]}


@SHEET.flow(label="Shipping", throttle=Throttle(50, "1s", burst=20))
def ship(ctx):
    """Book a parcel with the carrier."""
    booked = ctx.step.run("book carrier", reserve, "parcel", ctx.event.data["lines"])
    ctx.step.sleep("until the carrier confirms", "300ms")
    return {"tracking": f"JD{ctx.event.data['order']}", "shelf": booked["shelf"]}


@SHEET.flow(trigger=OnEvent("refund/asked", if_exp="event.data.cents > 0"), label="Refund", retries=1, backoff=SOON)
def refund(ctx):
    """Give money back; the bank has none of it."""
    asked = ctx.event.data
    ctx.step.run("find charge", reserve, "charge", 1)
    ctx.step.run("refund card", lambda: charge(asked["order"], -asked["cents"], 0, 9))


@SHEET.flow(trigger=OnCron("*/5 * * * *", tz="Europe/Paris"), label="Stock report")
def stock_report(ctx):
    """Count what is on the shelves."""
    return ctx.step.run("count", reserve, "all", 1)


@SHEET.flow(trigger="review/asked", label="Ask for a review", concurrency=Concurrency(1, key="event.data.user_id"))
def ask_review(ctx):
    """Wait for a person."""
    said = ctx.step.wait_for_signal("moderator", f"review {ctx.event.data['user_id']}", timeout="2 days")
    return None if said is None else said.data


@SHEET.flow(trigger="export/asked", label="Export", concurrency=Concurrency(1, key="event.data.user_id"))
def export(ctx):
    """Write all orders of a user; it takes its time."""
    return ctx.step.run("write orders", write, ctx.event.data["seconds"])


def write(seconds: float) -> str:
    """As long as a large file takes."""
    time.sleep(seconds)
    return "orders.csv"


app = SHEET.worker_app()
