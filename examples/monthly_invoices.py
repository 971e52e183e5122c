"""Fan out and in: a branch for each customer, spread over all workers, then one summary. From the folder above:

celery -A examples.monthly_invoices flows dev
celery -A examples.monthly_invoices flows send month/closed '{"month": "2026-10", "file": "examples/hours.csv"}'"""

import csv
from functools import partial
from pathlib import Path

from celery import Celery

from celeryflows import Flows, NonRetriableError, StepError

app = Celery("monthly_invoices", broker="redis://localhost:6379/0")
flows = Flows(app)
RATE = 80


@app.task
def customers_in(file):
    """Who is in the time sheet."""
    return sorted({row["customer"] for row in rows_of(file)})


@app.task
def count_hours(file, customer):
    """The hours of one customer."""
    try:
        return sum(float(row["hours"]) for row in rows_of(file) if row["customer"] == customer)
    except ValueError as error:
        raise NonRetriableError(f"hours of {customer}: {error}") from error


@app.task
def write_invoice(customer, month, hours):
    """A task as you have it already."""
    return {"customer": customer, "number": f"{month}/{customer}", "amount": hours * RATE}


def rows_of(file):
    """The rows of the time sheet."""
    with Path(file).open(newline="") as lines:
        return list(csv.DictReader(lines))


# At most ten branches of one run or of many are at work at once, on all workers together.
@flows.flow(name="bill_month", trigger="month/closed", concurrency=10)
def bill_month(ctx):
    """Bill all customers of a month at once."""
    month, file = ctx.event.data["month"], ctx.event.data["file"]
    customers = ctx.step.run("customers", customers_in, file)
    bills = ctx.group.parallel(partial(bill, ctx, month, file, customer) for customer in customers)
    sent = [one for one in bills if "error" not in one]
    return {
        "invoices": len(sent),
        "total": sum(one["amount"] for one in sent),
        "to look at": [one for one in bills if "error" in one],
    }


def bill(ctx, month, file, customer):
    """One branch. It ends with a value in any case: a bad row of one customer holds up nobody else."""
    try:
        hours = ctx.step.run("hours", count_hours, file, customer)
        return ctx.step.run("invoice", write_invoice, customer, month, hours)
    except StepError as error:
        return {"customer": customer, "error": error.message}
