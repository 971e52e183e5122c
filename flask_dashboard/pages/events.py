"""Events: the list, one event, and what can be done with it."""

from typing import Any

from flask import Blueprint, Response, flash, redirect, request, url_for
from werkzeug.wrappers import Response as Answer

from celeryflows import Event, FlowsError, StoreError
from celeryflows.console import actions
from celeryflows.console.events import event, event_lines
from celeryflows.console.flows import flow_names
from flask_dashboard.auth import acting
from flask_dashboard.desk import runtime
from flask_dashboard.pages.showing import LIVE, show
from flask_dashboard.presenters.links import here

A_PAGE = 50


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/events", "list_events", list_events)
    pages.add_url_rule("/events/<event_id>", "show_event", show_event)
    pages.add_url_rule("/events/<event_id>/again", "send_again", send_again, methods=["POST"])
    pages.add_url_rule("/events/<event_id>/replay", "replay_to_flow", replay_to_flow, methods=["POST"])


def list_events() -> Response:
    """The newest events, with the runs that each started."""
    name, cursor, own = (request.args.get(word, "").strip() for word in ("name", "cursor", "own"))
    page = event_lines(runtime(), name=name or None, own=bool(own), limit=A_PAGE, cursor=cursor or None)
    return show(
        "flows/events.html",
        page=page,
        name=name,
        own=own,
        first=not cursor,
        live_url=None if cursor else here(part=LIVE),
        newest_url=here(cursor=None),
        older_url=here(cursor=page.next) if page.next else None,
    )


def show_event(event_id: str) -> Response:
    """One event: its payload, and what came of it."""
    found = event(runtime(), event_id)
    return show(
        "flows/event.html", found=found, event=found.event, flow_names=flow_names(runtime()), live_url=here(part=LIVE)
    )


@acting
def send_again(event_id: str) -> Answer:
    """Send its name and data once more, as a new event."""
    old = event(runtime(), event_id).event
    return _leading(lambda: actions.send(runtime(), Event(old.name, old.data, v=old.v)).id, event_id, "Sent again.")


@acting
def replay_to_flow(event_id: str) -> Answer:
    """Start one flow with it."""
    flow = request.form.get("flow", "")
    try:
        run_id = actions.replay_event(runtime(), event_id, flow)
    except StoreError:
        raise
    except FlowsError as error:
        flash(str(error), "bad")
        return redirect(url_for(".show_event", event_id=event_id))
    flash(f"{flow} runs with this event.", "good")
    return redirect(url_for(".show_run", run_id=run_id))


def _leading(send: Any, event_id: str, words: str) -> Answer:
    try:
        new = send()
    except StoreError:
        raise
    except FlowsError as error:
        flash(str(error), "bad")
        return redirect(url_for(".show_event", event_id=event_id))
    flash(words, "good")
    return redirect(url_for(".show_event", event_id=new))
