"""The REST API: events and runs to look at, runs to cancel, signals to send, flows to start.

`Authorization: Bearer <key>`; a key looks, or acts too. Without keys this host itself may do both."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, g, request
from werkzeug.exceptions import BadRequest, Conflict, Forbidden, NotFound, Unauthorized

from celeryflows import InvalidEvent, Status
from celeryflows.console import actions, lookups
from celeryflows.console.doors import ACT
from celeryflows.console.invoking import invoke
from celeryflows.console.keys import API
from celeryflows.console.wire import read_json
from flask_dashboard.answers import told
from flask_dashboard.auditing import SAFE, audit_acts
from flask_dashboard.bounds import headers_of
from flask_dashboard.door import Door
from flask_dashboard.here import from_here, is_foreign
from flask_dashboard.openapi import DOCUMENT
from flask_dashboard.rest_forms import answer, as_json, event_form, refusal, run_form

MOST, USUAL = 100, 20
BECAUSE = "cancelled over the REST API"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def create_rest_api(door: Door) -> Blueprint:
    """The door as a blueprint."""
    api = Blueprint("rest_api", __name__, url_prefix="/v1")
    api.register_error_handler(Exception, _refused)

    @api.before_request
    def guard() -> None:
        door.bounds.pass_one("rest", request)
        role = _role(door)
        if any("\0" in str(value) for value in (request.view_args or {}).values()):
            raise NotFound("There is nothing of this name.")
        if request.method not in SAFE:
            if role != ACT:
                raise Forbidden("This key may look only.")
            g.json = read_json(door.body(request))

    audit_acts(api, lambda: door.flows.runtime, lambda: str(g.who), via="rest")
    _look(api, door)
    _act(api, door)

    @api.route("/<path:rest>", methods=METHODS)
    def nothing(rest: str) -> Response:
        raise NotFound("There is nothing at this address. GET /v1/openapi.json tells what there is.")

    return api


def _look(api: Blueprint, door: Door) -> None:
    @api.get("/openapi.json")
    def openapi() -> Response:
        return as_json({**DOCUMENT, "servers": [{"url": request.script_root or "/"}]})

    @api.get("/events")
    def events() -> Response:
        asked = _asked("name", "received_after", "received_before", "cursor", "limit")
        page = lookups.received(
            door.flows.runtime,
            name=asked.get("name"),
            after=asked.get("received_after"),
            before=asked.get("received_before"),
            limit=_limit(asked.get("limit")),
            cursor=asked.get("cursor"),
        )
        return answer([event_form(event) for event in page.items], cursor=page.next)

    @api.get("/events/<event_id>")
    def event(event_id: str) -> Response:
        return answer(event_form(lookups.event(door.flows.runtime, event_id)))

    @api.get("/events/<event_id>/runs")
    def runs_of_event(event_id: str) -> Response:
        return answer([run_form(run) for run in lookups.runs_of(door.flows.runtime, event_id)])

    @api.get("/runs/<run_id>")
    def run(run_id: str) -> Response:
        return answer(run_form(lookups.run(door.flows.runtime, run_id)))


def _act(api: Blueprint, door: Door) -> None:
    @api.delete("/runs/<run_id>")
    def cancel_run(run_id: str) -> Response:
        runtime = door.flows.runtime
        cancelled = actions.cancel(runtime, run_id, because=BECAUSE)
        found = lookups.run(runtime, run_id)
        if not cancelled and found.run.status is not Status.CANCELLED:
            raise Conflict(f"The run has ended: it is {found.run.status}.")
        return answer(run_form(found))

    @api.post("/cancellations")
    def cancel_runs() -> Response:
        given = _given("function_id", "started_after", "started_before", "if")
        runtime = door.flows.runtime
        chosen = actions.select_open(
            runtime,
            _text(given, "function_id") or _missing("function_id"),
            after=_text(given, "started_after"),
            before=_text(given, "started_before"),
            if_exp=_text(given, "if"),
        )
        return answer({**given, "cancelled": actions.cancel_many(runtime, chosen, because=BECAUSE)})

    @api.post("/signals")
    def send_signal() -> Response:
        given = _given("signal", "data")
        name = _text(given, "signal") or _missing("signal")
        run_id = actions.signal(door.flows.runtime, name, given.get("data"))
        if run_id is None:
            raise NotFound("No run waits for this signal. Signals are not kept: send it when one does.")
        return answer({"run_id": run_id})

    @api.post("/flows/<path:flow>/invoke")
    def invoke_flow(flow: str) -> Response:
        given = _given("data")
        data = given.get("data")
        if data is not None and not isinstance(data, dict):
            raise BadRequest("data must be an object")
        run_id = invoke(door.flows.sender, flow, data, key=request.headers.get("Idempotency-Key"))
        return answer({"run_id": run_id})


def _role(door: Door) -> str:
    """What the request may do. Raises 401 for one that may nothing."""
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    opened = door.keys.opens(API, key.strip()) if kind.lower() == "bearer" else None
    if opened is not None and opened.role is not None:
        g.who = f"key {opened.name}"
        return opened.role
    is_open = not door.settings.needs_login and not door.keys.is_set(API)
    if is_open and from_here(request, door.settings.bound_to) and not is_foreign(request):
        g.who = "this host"
        return ACT
    door.bounds.pass_one("refused", request)
    raise Unauthorized("Give a key of this API: Authorization: Bearer <key>")


def _asked(*known: str) -> Mapping[str, str]:
    """The query's words; one that is not known, or stands twice, is a mistake that must not pass in silence."""
    for name, values in request.args.lists():
        if name not in known:
            raise BadRequest(f"There is no {name!r} to ask for here. Known: {', '.join(known)}.")
        if len(values) > 1 or "\0" in values[0]:
            raise BadRequest(f"{name!r} is asked for once, as text")
    return request.args


def _limit(text: str | None) -> int:
    if text is None:
        return USUAL
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MOST):
        raise BadRequest(f"limit must be a number from 1 to {MOST}")
    return int(text)


def _given(*known: str) -> dict[str, Any]:
    value = g.json if g.json is not None else {}
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object")
    for name in value:
        if name not in known:
            raise BadRequest(f"There is no {name!r} to give here. Known: {', '.join(known)}.")
    return value


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    if value is not None and "\0" in value:
        raise InvalidEvent(f"{name} holds NUL, which cannot be stored")
    return value


def _missing(name: str) -> str:
    raise BadRequest(f"{name} is missing")


def _refused(error: Exception) -> Response:
    status, words = told(error)
    response = refusal(status, words)
    response.headers.update(headers_of(error))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
