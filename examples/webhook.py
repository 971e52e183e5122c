"""A payment provider's webhook becomes an event, the event a run. From the folder above:

celery -A examples.webhook flows dev
flask --app examples.webhook:web run"""

from celery import Celery
from flask import Flask, request

from celeryflows import Flows, InvalidEvent, StoreUnavailable

app = Celery("webhook", broker="redis://localhost:6379/0")
flows = Flows(app)
web = Flask(__name__)


@web.post("/webhooks/payments")
def payment_received():
    """Accept what the provider sends. Its own id makes a repeated call harmless."""
    payload = request.get_json(silent=True)
    if not isinstance(payload, dict) or not isinstance(payload.get("id"), str):
        return {"error": 'send a JSON object with a text "id"'}, 400
    try:
        ids = flows.send("payment/received", payload, id=payload["id"])
    except InvalidEvent as error:
        return {"error": str(error)}, 400
    except StoreUnavailable:
        # Nothing was accepted; providers call again.
        return {"error": "try again later"}, 503
    return {"events": ids}, 202


@app.task
def write_receipt(payment_id, amount):
    """A task as you have them already."""
    return f"receipt for {payment_id}: {amount / 100:.2f}"


@flows.flow(name="receipt", trigger="payment/received")
def receipt(ctx):
    """Write the receipt of a payment."""
    payment = ctx.event.data
    return ctx.step.run("write receipt", write_receipt, payment["id"], payment["amount"])
