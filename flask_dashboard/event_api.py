"""The Event API: `POST /e/<key>` with one event or a list, as Inngest's clients send it.

What is acknowledged is committed; what is refused is refused whole."""

import json
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import MethodNotAllowed, Unauthorized

from celeryflows import BoundExceeded, InvalidEvent
from celeryflows.console.keys import EVENT
from celeryflows.console.wire import receive
from flask_dashboard.answers import told
from flask_dashboard.bounds import headers_of
from flask_dashboard.door import Door
from flask_dashboard.here import from_here, host_of, is_foreign, is_loopback

SEED = "x-inngest-event-id-seed"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_event_api(door: Door) -> Blueprint:
    """The door as a blueprint."""
    api = Blueprint("event_api", __name__)
    api.register_error_handler(Exception, _refused)

    @api.route("/e/", defaults={"key": ""}, methods=METHODS, provide_automatic_options=False)
    @api.route("/e/<key>", methods=METHODS, provide_automatic_options=False)
    def events(key: str) -> Response:
        if request.method == "OPTIONS":
            return Response(status=200)
        if request.method != "POST":
            raise MethodNotAllowed(["POST", "OPTIONS"])
        door.bounds.pass_one("events", request)
        _check_key(door, key)
        return _accepted(door)

    @api.after_request
    def allow_origin(response: Response) -> Response:
        origin = request.headers.get("Origin")
        if origin is not None and _may_send_from(door, origin):
            _echo(response, origin)
        return response

    return api


def _accepted(door: Door) -> Response:
    body = door.body(request)
    try:
        ids = receive(door.flows.sender, body, seed=request.headers.get(SEED))
    except (InvalidEvent, BoundExceeded) as error:
        if isinstance(error, InvalidEvent) and body.lstrip()[:1] == b"[":
            return _answer(400, f"event {error.index}: {error}")
        return _answer(400, str(error))
    return _json({"ids": ids, "status": 200}, 200)


def _check_key(door: Door, key: str) -> None:
    if door.keys.opens(EVENT, key) is not None:
        return
    # Without keys whoever is on this host may send, but no page that its browser happens to show.
    if not door.keys.is_set(EVENT) and _is_here(door):
        origin = request.headers.get("Origin")
        if not is_foreign(request) or (origin is not None and _may_send_from(door, origin)):
            return
    door.bounds.pass_one("refused", request)
    raise Unauthorized("Event key not found")


def _may_send_from(door: Door, origin: str) -> bool:
    """Origins that are named may; on loopback pages of loopback may too."""
    return origin in door.settings.cors_origins or (is_loopback(host_of(origin)) and _is_here(door))


def _is_here(door: Door) -> bool:
    return from_here(request, door.settings.bound_to)


def _echo(response: Response, origin: str) -> None:
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Vary"] = "Origin"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    for asked, echoed in (("Method", "Methods"), ("Headers", "Headers")):
        if (value := request.headers.get(f"Access-Control-Request-{asked}")) is not None:
            response.headers[f"Access-Control-Allow-{echoed}"] = value


def _refused(error: Exception) -> Response:
    status, words = told(error)
    response = _json({"status": 401, "error": words}, 401) if status == 401 else _answer(status, words)
    response.headers.update(headers_of(error))
    return response


def _answer(status: int, words: str) -> Response:
    return _json({"ids": [], "status": status, "error": words}, status)


def _json(value: Any, status: int) -> Response:
    return Response(json.dumps(value, separators=(",", ":")), status, content_type="application/json")
