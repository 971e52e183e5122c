"""What happens to an order. The steps run in the app's context, on any worker."""

from sqlalchemy import update

from celeryflows import CancelOn, Flows
from shop.models import Order, Stock, db
from shop.tasks import send_letter

flows = Flows()


@flows.flow(name="fulfil", trigger="order/placed", cancel_on=CancelOn("order/cancelled", match="data.order"))
def fulfil(ctx):
    """Wait for the payment, take the item from the stock, write to the customer."""
    order = ctx.event.data
    # The customer may pay before a worker comes to this line.
    payment = ctx.step.wait_for_event(
        "payment", event="payment/received", match="data.order", timeout="3 days", lookback="1h"
    )
    if payment is None:
        return ctx.step.run("give up", move_on, order["order"], "unpaid")
    ctx.step.run("reserve", reserve, order["order"], order["item"])
    ctx.step.run("letter", send_letter, order["customer"], subject="Your parcel is on its way")
    return "sent"


def move_on(order_id, state):
    """Another state for an order that is still as it was placed; the state."""
    db.session.execute(update(Order).where(Order.id == order_id, Order.state == "placed").values(state=state))
    db.session.commit()
    return state


def reserve(order_id, item):
    """Take one from the stock. A step may run twice: the order's state says whether it did before."""
    placed = update(Order).where(Order.id == order_id, Order.state == "placed").values(state="sent")
    if db.session.execute(placed).rowcount:
        db.session.execute(update(Stock).where(Stock.item == item).values(left=Stock.left - 1))
    db.session.commit()
