"""A content pipeline of tasks on their own queues: read the text in three ways at once, typeset, publish.
From the folder above; other machines may consume `media`:

celery -A examples.content_pipeline flows dev -- -Q celery,media
celery -A examples.content_pipeline flows send article/saved '{"slug": "tea", "text": "Green tea. Black tea. Rain."}'"""

import re
from collections import Counter
from html import escape

from celery import Celery, group

from celeryflows import Event, Flows, Singleton

app = Celery("content_pipeline", broker="redis://localhost:6379/0")
app.conf.task_routes = {"media.*": {"queue": "media"}}
flows = Flows(app)


@app.task(name="media.summarise")
def summarise(text):
    """A task as you have it already: the first sentence."""
    return text.partition(".")[0] + "."


@app.task(name="media.keywords")
def keywords(text, most=3):
    """The words that come most often."""
    return [word for word, _ in Counter(re.findall(r"[a-z]{3,}", text.lower())).most_common(most)]


@app.task(name="media.minutes")
def minutes(text, words_a_minute=200):
    """How long it takes to read."""
    return max(1, round(len(text.split()) / words_a_minute))


@app.task(name="media.typeset", autoretry_for=(OSError,), retry_backoff=True)
def typeset(text, summary, tags, minutes):
    """The page."""
    body = "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n"))
    return f"<header>{escape(summary)} {minutes} min, {', '.join(tags)}</header>{body}"


# Who saves again while an older version is under way wants the newer one.
@flows.flow(name="publish", trigger="article/saved", singleton=Singleton("cancel", key="event.data.slug"))
def publish(ctx):
    """From a saved text to a published page. Each task is a step: a rerun goes on from the one that failed."""
    article = ctx.event.data
    text = article["text"]
    summary, tags, length = ctx.step.task("read", group(summarise.s(text), keywords.s(text), minutes.s(text)))
    page = ctx.step.task("typeset", typeset.s(text, summary, tags, length), timeout="10m")
    ctx.step.send_event("tell", Event("article/published", {"slug": article["slug"], "tags": tags}))
    return {"page": page, "tags": tags}
