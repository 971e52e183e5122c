"""A report each working day at seven, of what ran since the one before. No beat. From the folder above:

celery -A examples.daily_report flows dev
celery -A examples.daily_report flows cron"""

from collections import Counter
from datetime import datetime, timedelta

from celery import Celery

from celeryflows import Flows, OnCron

app = Celery("daily_report", broker="redis://localhost:6379/0")
flows = Flows(app)


@app.task
def send_mail(to, subject, text):
    """A task as you have it already."""
    print(f"mail to {to}: {subject}\n{text}")


def count_runs(after, before):
    """How many runs of each flow ended how; page by page, the newest first."""
    counts, cursor = Counter(), None
    while page := flows.runs(after=after, before=before, limit=500, cursor=cursor):
        counts.update(f"{run.flow} {run.status}" for run in page)
        cursor = page[-1].id
    return dict(sorted(counts.items()))


def last_report(until):
    """Where the report before this one ended: on a Monday that was on Friday. The first one looks back a day."""
    before = flows.runs(flow="daily_report", status="completed", limit=1)
    if before:
        return flows.run(before[0].id).output["until"]
    return (datetime.fromisoformat(until) - timedelta(days=1)).isoformat()


# Fired once across all workers, on both days when the clock changes too; after an outage once, for the latest.
@flows.flow(name="daily_report", trigger=OnCron("0 7 * * 1-5", tz="Europe/Paris"))
def daily_report(ctx):
    """Count, write, remember up to where: the next report goes on from there."""
    until = ctx.event.data["scheduled_at"]
    since = ctx.step.run("since", last_report, until)
    counts = ctx.step.run("count", count_runs, since, until)
    text = "\n".join(f"{count:6} {what}" for what, count in counts.items()) or "nothing ran"
    ctx.step.run("mail", send_mail, "team@example.com", f"since {datetime.fromisoformat(since):%A %H:%M}", text)
    return {"until": until, "counts": counts}
