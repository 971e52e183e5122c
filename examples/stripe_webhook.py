"""Stripe's webhook: its own library checks the signature, its event id drops what it repeats. From the folder above,
with `pip install stripe flask`:

celery -A examples.stripe_webhook flows dev
STRIPE_WEBHOOK_SECRET=whsec_... flask --app examples.stripe_webhook:web run
stripe listen --forward-to localhost:5000/webhooks/stripe"""

import os

import stripe
from celery import Celery
from flask import Flask, request

from celeryflows import CancelOn, Flows, Singleton, StoreUnavailable

app = Celery("stripe_webhook", broker="redis://localhost:6379/0")
flows = Flows(app)
web = Flask(__name__)
web.config["STRIPE_WEBHOOK_SECRET"] = os.environ.get("STRIPE_WEBHOOK_SECRET")


@web.post("/webhooks/stripe")
def stripe_event():
    """Whatever Stripe tells becomes an event: `stripe/invoice.paid` with the invoice as its data."""
    signature, secret = request.headers.get("Stripe-Signature"), web.config["STRIPE_WEBHOOK_SECRET"]
    try:
        told = stripe.Webhook.construct_event(request.get_data(), signature, secret)
    except (ValueError, stripe.SignatureVerificationError) as error:
        return {"error": str(error)}, 400
    try:
        flows.send(f"stripe/{told.type}", told.data.object.to_dict(), id=told.id)
    except StoreUnavailable:
        # Nothing was accepted: Stripe calls again, for three days.
        return {"error": "try again later"}, 503
    return {}, 200


@app.task
def send_mail(to, template):
    """A task as you have it already."""
    print(f"mail to {to}: {template}")


@app.task
def close_account(customer):
    """And another."""
    print(f"closed {customer}")


@flows.flow(
    name="dunning",
    trigger="stripe/invoice.payment_failed",
    # Stripe tries for weeks: the first failed attempt starts it, later ones find it at work; the payment ends it.
    singleton=Singleton("skip", key="event.data.id"),
    cancel_on=CancelOn("stripe/invoice.paid", match="data.id"),
)
def dunning(ctx):
    """Remind a customer whose payment failed; close the account after two weeks."""
    invoice = ctx.event.data
    for pause, template in [("3 days", "please pay"), ("4 days", "second reminder"), ("1 week", "last reminder")]:
        ctx.step.run(template, send_mail, invoice["customer_email"], template)
        ctx.step.sleep(f"after {template}", pause)
    ctx.step.run("close", close_account, invoice["customer"])
    return "closed"
