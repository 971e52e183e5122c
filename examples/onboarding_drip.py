"""A series of mails over two weeks, which stops when the user does what they are about. From the folder above:

celery -A examples.onboarding_drip flows dev
celery -A examples.onboarding_drip flows send user/signed.up '{"user_id": "u1", "email": "ann@example.com"}'
celery -A examples.onboarding_drip flows send project/created '{"user_id": "u1", "name": "garden"}'
celery -A examples.onboarding_drip flows send user/unsubscribed '{"user_id": "u1"}'"""

from celery import Celery

from celeryflows import CancelOn, Flows

app = Celery("onboarding_drip", broker="redis://localhost:6379/0")
flows = Flows(app)

# How long to wait for a first project, and the mail that follows when there is none.
DRIP = [("1 day", "first steps"), ("3 days", "what others build"), ("10 days", "shall we help?")]


@app.task
def send_mail(to, template, **values):
    """A task as you have it already."""
    print(f"mail to {to}: {template} {values or ''}")
    return template


@flows.flow(
    name="drip",
    trigger="user/signed.up",
    cancel_on=CancelOn("user/unsubscribed", match="data.user_id"),
)
def drip(ctx):
    """Welcome a user, then write now and then until they have made their first project."""
    to = ctx.event.data["email"]
    ctx.step.run("welcome", send_mail, to, "welcome")
    for patience, template in DRIP:
        project = ctx.step.wait_for_event(
            f"project before {template!r}", event="project/created", match="data.user_id", timeout=patience
        )
        if project is not None:
            ctx.step.run("congratulate", send_mail, to, "well done", project=project.data["name"])
            return {"active": True, "project": project.data["name"]}
        ctx.step.run(template, send_mail, to, template)
    return {"active": False}
