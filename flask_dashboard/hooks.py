"""Webhooks: `POST /hooks/<source>`. Only what is signed is taken; what is acknowledged is committed."""

from typing import Any
from urllib.parse import parse_qsl

from flask import Blueprint, Response, request
from werkzeug.exceptions import MethodNotAllowed, NotFound, Unauthorized

from celeryflows import InvalidEvent
from celeryflows.console.audit import count
from celeryflows.console.doors import Hook
from celeryflows.console.hooked import decode, deliver_hook
from flask_dashboard.answers import told
from flask_dashboard.bounds import headers_of
from flask_dashboard.door import Door
from flask_dashboard.rest_forms import as_json, refusal
from flask_dashboard.signatures import is_signed

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def create_hooks(door: Door) -> Blueprint:
    """The door as a blueprint."""
    hooks = Blueprint("hooks", __name__)
    hooks.register_error_handler(Exception, _refused)

    @hooks.route("/hooks/<source>", methods=METHODS)
    def called(source: str) -> Response:
        if request.method != "POST":
            raise MethodNotAllowed(["POST"])
        door.bounds.pass_one("hooks", request)
        hook = door.settings.hooks.get(source)
        if hook is None:
            raise NotFound("There is no hook of this name.")
        body = door.body(request)
        _check(door, hook, body)
        return _taken(door, hook, _decoded(body))

    return hooks


def _check(door: Door, hook: Hook, body: bytes) -> None:
    headers = {name.lower(): value for name, value in request.headers.items()}
    if is_signed(hook, headers, body, door.flows.runtime.clock.now()):
        return
    # Each refusal is a write: so many of one address, no more.
    door.bounds.pass_one("refused", request)
    count(door.flows.runtime, f"hook refused {hook.source}")
    raise Unauthorized("The signature does not fit. Is the secret the one that the source signs with?")


def _taken(door: Door, hook: Hook, body: Any) -> Response:
    if hook.scheme == "slack" and isinstance(body, dict) and body.get("type") == "url_verification":
        return as_json({"challenge": str(body.get("challenge", ""))})
    headers = {name.lower(): value for name, value in request.headers.items()}
    ids = deliver_hook(door.flows.sender, hook, body, headers=headers, query=request.args.to_dict())
    return as_json({"ids": ids, "status": 200})


def _decoded(body: bytes) -> Any:
    """JSON, or a form's fields: some sources send their JSON in one of these."""
    if request.mimetype != "application/x-www-form-urlencoded":
        return decode(body)
    return _fields(body)


def _fields(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise InvalidEvent("The body is no form of at most 1,000 fields.") from None
    found: dict[str, Any] = dict(pairs)
    if "payload" in found:
        found["payload"] = decode(found["payload"].encode())
    return found


def _refused(error: Exception) -> Response:
    status, words = told(error)
    response = refusal(status, words)
    response.headers.update(headers_of(error))
    return response
