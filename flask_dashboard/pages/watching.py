"""Who did what, and who is told of what: the audit, and the rules of alerts with a message to try them."""

from flask import Blueprint, Response, flash, redirect, request, url_for
from werkzeug.wrappers import Response as Answer

from celeryflows.console.alerting import standings, try_places
from celeryflows.console.audit import audit
from flask_dashboard.auth import acting
from flask_dashboard.desk import flows, runtime
from flask_dashboard.pages.showing import LIVE, show
from flask_dashboard.presenters.links import here

A_PAGE = 50


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/audit", "list_audit", list_audit)
    pages.add_url_rule("/alerts", "list_alerts", list_alerts)
    pages.add_url_rule("/alerts/test", "try_alerts", try_alerts, methods=["POST"])


def list_audit() -> Response:
    """Acts, the newest first; `who` asks for those of one alone."""
    who, cursor = (request.args.get(word, "").strip() for word in ("who", "cursor"))
    page = audit(runtime(), who=who or None, limit=A_PAGE, cursor=cursor or None)
    older = here(cursor=page.next) if page.next else None
    return show("flows/audit.html", entries=page.items, who=who, older_url=older)


def list_alerts() -> Response:
    """The rules, what they see now, and when each was told last."""
    return show("flows/alerts.html", rules=standings(runtime(), flows().alert_rules), live_url=here(part=LIVE))


@acting
def try_alerts() -> Answer:
    """Send a message to every place."""
    refused = try_places(runtime(), flows().alert_rules)
    flash("; ".join(refused) or "A message was sent to every place.", "bad" if refused else "good")
    return redirect(url_for(".list_alerts"))
