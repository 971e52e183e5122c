"""The shop's pages: what they send belongs to their session."""

from flask import Blueprint, request

from celeryflows import InvalidEvent, StoreUnavailable
from shop.flows import flows
from shop.models import Order, Stock, db

pages = Blueprint("shop", __name__)


@pages.post("/orders/")
def place_order():
    """Write the order and tell of it: both are committed, or neither is."""
    given = request.get_json()
    order = Order(customer=given["customer"], item=given["item"])
    db.session.add(order)
    db.session.flush()
    told = {"order": order.id, "customer": order.customer, "item": order.item}
    flows.send("order/placed", told, transaction=db.session)
    stock = db.session.get(Stock, order.item)
    if stock is None or stock.left == 0:
        db.session.rollback()
        return {"error": f"no {given['item']} left"}, 409
    db.session.commit()
    return {"order": told["order"]}, 201


@pages.post("/orders/<int:order_id>/cancel")
def cancel_order(order_id):
    """The run that waits for the payment ends."""
    order = db.get_or_404(Order, order_id)
    order.state = "cancelled"
    flows.send("order/cancelled", {"order": order_id}, transaction=db.session)
    db.session.commit()
    return {}, 202


@pages.post("/webhooks/payments")
def payment_received():
    """Accept what the payment provider sends. Its own id makes a repeated call harmless."""
    payload = request.get_json(silent=True)
    if not isinstance(payload, dict) or not isinstance(payload.get("id"), str):
        return {"error": 'send a JSON object with a text "id"'}, 400
    try:
        flows.send("payment/received", payload, id=payload["id"])
    except InvalidEvent as error:
        return {"error": str(error)}, 400
    except StoreUnavailable:
        # Nothing was accepted; providers call again.
        return {"error": "try again later"}, 503
    return {}, 202
