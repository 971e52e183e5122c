"""A person decides: the run sleeps until somebody follows the link, reminds them, and gives up. From the folder above:

celery -A examples.approval flows dev
flask --app examples.approval:web run
celery -A examples.approval flows send expense/submitted '{"expense": "e7", "by": "ann", "amount": 1800}'
celery -A examples.approval flows signal expense/e7 '{"approved": true, "by": "bob"}'"""

from celery import Celery
from flask import Flask, request

from celeryflows import Flows, Singleton

app = Celery("approval", broker="redis://localhost:6379/0")
flows = Flows(app)
web = Flask(__name__)


@web.post("/expenses/<expense>/decision")
def decide(expense):
    """What the buttons of the mail post to; put your login in front of it."""
    decision = {"approved": request.form["approved"] == "yes", "by": request.form["by"]}
    if flows.signal(f"expense/{expense}", decision) is None:
        return {"error": "nobody waits for this decision: it was taken, or the time is over"}, 409
    return decision, 200


@app.task
def send_mail(to, subject):
    """A task as you have it already."""
    print(f"mail to {to}: {subject}")


@flows.flow(name="approve_expense", trigger="expense/submitted", singleton=Singleton("skip", key="event.data.expense"))
def approve_expense(ctx):
    """Small sums pass; for others two days, a reminder, and one day more."""
    expense = ctx.event.data
    if expense["amount"] <= 100:
        return {"approved": True, "by": "the rule for small sums"}
    for subject, patience in [("please decide", "2 days"), ("a last reminder", "1 day")]:
        ctx.step.run(subject, send_mail, "boss@example.com", f"{expense['expense']}: {subject}")
        answer = ctx.step.wait_for_signal(f"after {subject}", f"expense/{expense['expense']}", timeout=patience)
        if answer is not None:
            ctx.step.run("tell", send_mail, expense["by"], f"{expense['expense']}: {answer.data}")
            return answer.data
    return {"approved": False, "by": "nobody answered"}
