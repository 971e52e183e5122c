"""What happens to an order. The steps run in the app's context, on any worker."""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

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
        return ctx.step.run("give up", give_up, order["order"])
    left = ctx.step.transaction("reserve", reserve, order["order"], order["item"])
    ctx.step.run("letter", send_letter, order["customer"], subject="Your parcel is on its way")
    return {"left": left}


def give_up(order_id):
    """A step that may run twice, in the app's context: the second time changes nothing."""
    db.session.execute(update(Order).where(Order.id == order_id).values(state="unpaid"))
    db.session.commit()
    return "unpaid"


def reserve(session: Session, order_id, item):
    """Take one from the stock, committed together with the step's value: done exactly once; what is left."""
    session.execute(update(Stock).where(Stock.item == item).values(left=Stock.left - 1))
    session.execute(update(Order).where(Order.id == order_id).values(state="sent"))
    return session.scalar(select(Stock.left).where(Stock.item == item))
