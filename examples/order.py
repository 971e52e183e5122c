"""An order: stock taken exactly once, a payment, a wait for the parcel, and all undone when one fails or the customer
changes their mind. From the folder above:

celery -A examples.order flows dev
celery -A examples.order flows send goods/received '{"item": "teapot", "count": 5}'
celery -A examples.order flows send order/placed '{"order": "o1", "item": "teapot", "card": "4242424242424242"}'
celery -A examples.order flows send parcel/sent '{"order": "o1", "carrier": "DHL"}'
celery -A examples.order flows send order/cancelled '{"order": "o1"}'"""

from functools import partial

from celery import Celery
from sqlalchemy import CheckConstraint, Column, Integer, MetaData, String, Table, insert, update

from celeryflows import Flows, NonRetriableError, StepError

app = Celery("order", broker="redis://localhost:6379/0")
flows = Flows(app)

stock = Table(
    "shop_stock",
    MetaData(),
    Column("item", String(50), primary_key=True),
    Column("count", Integer, CheckConstraint("count >= 0"), nullable=False),
)


@app.task
def charge_card(card, order, key):
    """A task as you have it already. With the key, the provider makes of a second try the first one's charge."""
    if card == "4000000000000002":
        raise NonRetriableError("the card was declined")
    return {"charge": f"ch_{order}", "key": key}


@app.task
def refund(charge):
    """And its way back."""
    return f"refunded {charge}"


def put(connection, item, count):
    """Put goods on the shelf, or take them with a count below zero. The table stands in the store's database."""
    stock.create(connection, checkfirst=True)
    found = update(stock).where(stock.c.item == item, stock.c.count + count >= 0).values(count=stock.c.count + count)
    if connection.execute(found).rowcount:
        return
    if count < 0:
        raise NonRetriableError(f"no {item} left")
    connection.execute(insert(stock).values(item=item, count=count))


@flows.flow(name="restock", trigger="goods/received")
def restock(ctx):
    """Goods have come in."""
    ctx.step.transaction("put", put, ctx.event.data["item"], ctx.event.data["count"])


def wait(ctx, name):
    """A branch that ends with the order's event of this name; one that came while we charged counts too."""
    return partial(ctx.step.wait_for_event, name, event=name, match="data.order", timeout="5 days", lookback="run")


@flows.flow(name="fulfil", trigger="order/placed")
def fulfil(ctx):
    """Reserve, charge, wait for the parcel."""
    order, undo = ctx.event.data, []
    try:
        # What this writes is committed together with the step's value: once, whatever dies.
        ctx.step.transaction("reserve", put, order["item"], -1)
        undo.append(lambda: ctx.step.transaction("release", put, order["item"], 1))

        paid = ctx.step.run("charge", charge_card, order["card"], order["order"], key=ctx.run_id)
        undo.append(lambda: ctx.step.run("refund", refund, paid["charge"]))

        first, event = ctx.group.race(wait(ctx, "parcel/sent"), wait(ctx, "order/cancelled"))
        if event is None:
            reason = "no parcel in five days"
        elif first == 0:
            return {"state": "sent", "carrier": event.data["carrier"]}
        else:
            reason = "cancelled by the customer"
    except StepError as error:
        reason = error.message
    for step in reversed(undo):
        step()
    return {"state": "given up", "reason": reason}
