"""How things stand now: limits, workers and queues, replays."""

from flask import Blueprint, Response, flash, redirect, url_for
from werkzeug.wrappers import Response as Answer

from celeryflows.console import actions
from celeryflows.console.crew import crew
from celeryflows.console.figures import RANGES
from celeryflows.console.limit_uses import limit_series
from celeryflows.console.limits import limits
from celeryflows.console.replays import replays
from flask_dashboard.auth import acting
from flask_dashboard.desk import runtime
from flask_dashboard.pages.flow import read_range
from flask_dashboard.pages.showing import LIVE, show
from flask_dashboard.presenters.limit_charts import limit_charts
from flask_dashboard.presenters.links import here


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/limits", "list_limits", list_limits)
    pages.add_url_rule("/workers", "list_workers", list_workers)
    pages.add_url_rule("/replays", "list_replays", list_replays)
    pages.add_url_rule("/replays/<replay_id>/cancel", "cancel_replay", cancel_replay, methods=["POST"])


def list_limits() -> Response:
    """What is held or waited for at limits, where somebody waits longest first, and how it was over time."""
    range = read_range()
    return show(
        "flows/limits.html",
        limits=limits(runtime()),
        range=range,
        ranges=list(RANGES),
        shapes=limit_charts(limit_series(runtime(), range), named=True),
        live_url=here(part=LIVE),
    )


def list_workers() -> Response:
    """Who works, on what, and what waits in which queue."""
    return show("flows/workers.html", crew=crew(runtime()), live_url=here(part=LIVE))


def list_replays() -> Response:
    """Replays, the newest first."""
    return show("flows/replays.html", replays=replays(runtime()), live_url=here(part=LIVE))


@acting
def cancel_replay(replay_id: str) -> Answer:
    """Start no more runs of it."""
    done = actions.cancel_replay(runtime(), replay_id, because="stopped on the dashboard")
    flash("The replay starts no more runs." if done else "The replay had ended before.", "good" if done else "bad")
    return redirect(url_for(".list_replays"))
