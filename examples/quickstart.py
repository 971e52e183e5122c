"""Welcomes a new user, and nudges those who have not ordered in time. From the folder above:

celery -A examples.quickstart flows dev"""

from celery import Celery

from celeryflows import Flows

app = Celery("quickstart", broker="redis://localhost:6379/0")
flows = Flows(app)


@app.task
def send_email(to, template):
    """A task as you have them already."""
    print(f"mail to {to}: {template}")


@flows.flow(name="onboarding", trigger="user/signed.up")
def onboarding(ctx):
    """Welcome a new user, then nudge them if they have not ordered."""
    user = ctx.event.data
    ctx.step.run("welcome", send_email, user["email"], template="welcome")
    ctx.step.sleep("settle", "3s")
    order = ctx.step.wait_for_event("first order", event="order/placed", match="data.user_id", timeout="4s")
    if order is None:
        ctx.step.run("nudge", send_email, user["email"], template="nudge")
    return {"ordered": order is not None}


if __name__ == "__main__":
    flows.send("user/signed.up", {"user_id": "u1", "email": "ann@example.com"})
