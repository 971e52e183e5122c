"""What happens to an order. Found by itself, as tasks.py is."""

from django.db.models import F

from celeryflows import CancelOn
from orders.models import Order, Stock
from orders.tasks import send_letter
from shop.celery import flows


@flows.flow(name="fulfil", cancel_on=CancelOn("order/cancelled", match="data.order"))
def fulfil(ctx):
    """Wait for the payment, take the item from the stock once, write to the customer."""
    order = ctx.event.data
    # The customer may pay before a worker comes to this line.
    payment = ctx.step.wait_for_event(
        "payment", event="payment/received", match="data.order", timeout="3 days", lookback="1h"
    )
    if payment is None:
        ctx.step.transaction("give up", set_state, order["order"], "unpaid")
        return "unpaid"
    left = ctx.step.transaction("reserve", reserve, order["order"])
    ctx.step.run("letter", send_letter, order["customer"], subject="Your parcel is on its way")
    return {"left": left}


def set_state(connection, order_id, state):
    """Django's own transaction, committed together with the step's value: done exactly once."""
    Order.objects.using(connection.alias).filter(id=order_id).update(state=state)


def reserve(connection, order_id):
    """Take one from the stock; what is left."""
    orders, stock = Order.objects.using(connection.alias), Stock.objects.using(connection.alias)
    order = orders.get(id=order_id)
    stock.filter(item=order.item).update(left=F("left") - 1)
    set_state(connection, order_id, "sent")
    return stock.get(item=order.item).left
