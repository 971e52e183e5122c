"""Send an event: an editor that tells what is wrong before anything is sent."""

import json
from typing import Any

from flask import Blueprint, Response, flash, redirect, request, url_for
from werkzeug.wrappers import Response as Answer

from celeryflows import Event, FlowsError, StoreError
from celeryflows.console import actions
from celeryflows.console.events import event
from celeryflows.console.flows import trigger_names
from flask_dashboard.auth import acting
from flask_dashboard.desk import runtime
from flask_dashboard.pages.showing import show
from flask_dashboard.presenters.snippets import curl_snippet, python_snippet
from flask_dashboard.presenters.values import json_text

EXAMPLE = {"user_id": "u1", "email": "ann@example.com"}


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/send", "write_event", write_event)
    pages.add_url_rule("/send", "send_event", send_event, methods=["POST"])


@acting
def write_event() -> Response:
    """The editor, empty or with the event to be sent like."""
    like = request.args.get("like")
    if like:
        old = event(runtime(), like).event
        return _editor(old.name, json_text(old.data))
    names = trigger_names(runtime())
    return _editor(request.args.get("name") or (names[0] if names else ""), json_text(EXAMPLE))


@acting
def send_event() -> Response | Answer:
    """Send it; leads to it, or back to the editor with what was wrong."""
    name, text, key = (request.form.get(word, "").strip() for word in ("name", "data", "id"))
    try:
        data = _object(text)
        sent = actions.send(runtime(), Event(name, data, id=key or None))
    except StoreError:
        raise
    except (FlowsError, ValueError) as error:
        response = _editor(name, text, key, problem=str(error))
        response.status_code = 400
        return response
    flash(f"Sent. It started {len(sent.runs) or 'no'} run{'' if len(sent.runs) == 1 else 's'}.", "good")
    return redirect(url_for(".show_event", event_id=sent.id))


def _editor(name: str, data: str, key: str = "", problem: str = "") -> Response:
    return show(
        "flows/send.html",
        name=name,
        data=data,
        key=key,
        problem=problem,
        names=trigger_names(runtime()),
        python=python_snippet(name, data, key),
        curl=curl_snippet(name, data, key, request.url_root),
    )


def _object(text: str) -> Any:
    try:
        data = json.loads(text or "{}")
    except ValueError as error:
        raise ValueError(f"The data is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError('The data is a JSON object, such as {"user_id": "u1"}')
    return data
