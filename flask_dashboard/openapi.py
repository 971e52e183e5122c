"""What the doors take and answer, as an OpenAPI document. The tests hold it against the routes and the answers."""

from typing import Any

Schema = dict[str, Any]


def _text(**more: Any) -> Schema:
    return {"type": "string", **more}


def _object(required: list[str], **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


MOMENT = _text(format="date-time")
ANYTHING: Schema = {}
# As PostgreSQL keeps no NUL, no name may have one; an id may be in any form that a task id of Celery has.
NAME = _text(minLength=1, maxLength=256)

SCHEMAS: dict[str, Schema] = {
    "Event": _object(
        ["internal_id", "id", "name", "data", "ts", "v", "received_at"],
        internal_id=_text(description="Our id."),
        id=_text(description="The sender's own id, ours where none was given."),
        name=_text(),
        data={"type": "object"},
        ts={"type": "integer", "description": "Milliseconds since 1970."},
        v=_or_null(_text()),
        received_at=MOMENT,
    ),
    "Run": _object(
        ["run_id", "run_started_at", "function_id", "event_id", "status", "ended_at", "output"],
        run_id=_text(),
        run_started_at=_or_null(MOMENT),
        function_id=_text(),
        function_version=_or_null(_text()),
        event_id=_text(),
        batch_id=_or_null(_text()),
        original_run_id=_or_null(_text()),
        cron=_or_null(_text()),
        status=_text(enum=["Queued", "Running", "Completed", "Failed", "Cancelled", "Skipped"]),
        ended_at=_or_null(MOMENT),
        output=ANYTHING,
    ),
    "RunId": _object(["run_id"], run_id=_text()),
    "Cancellation": _object(
        ["function_id"],
        function_id=NAME,
        started_after=MOMENT,
        started_before=MOMENT,
        **{"if": _text(description="A CEL condition over `event` and `error`.")},
    ),
    "Cancelled": {"type": "object", "properties": {"cancelled": {"type": "integer"}}, "required": ["cancelled"]},
    "Signal": _object(["signal"], signal=NAME, data=ANYTHING),
    "Invocation": _object([], data=_or_null({"type": "object"})),
    "Sent": _object(["ids", "status"], ids={"type": "array", "items": _text()}, status={"const": 200}),
    "Error": {
        "type": "object",
        "properties": {"error": _text(), "status": {"type": "integer"}},
        "required": ["error", "status"],
    },
    "NewEvent": {
        "type": "object",
        "properties": {
            "name": NAME,
            "data": _or_null({"type": "object"}),
            "id": _or_null(_text(maxLength=256)),
            "ts": {
                "anyOf": [
                    {"type": "integer", "minimum": 315_532_800_000, "maximum": 4_102_444_800_000},
                    {"enum": [0, None]},
                ],
                "description": "Milliseconds since 1970, from 1980 to 2100; later than now delays the runs. 0 is now.",
            },
            "v": _or_null(_text(maxLength=256)),
        },
        "required": ["name"],
    },
}


def _answers(data: Schema, *refusals: int) -> dict[str, Any]:
    envelope = _object(["data", "metadata"], data=data, metadata={"type": "object"})
    content = {"application/json": {"schema": envelope}}
    return {"200": {"description": "As asked.", "content": content}, **_refusals(*refusals)}


def _refusals(*statuses: int) -> dict[str, Any]:
    return {
        str(status): {
            "description": REFUSALS[status],
            "content": {"application/json": {"schema": _ref("Error")}},
        }
        for status in (*statuses, 401, 403, 429, 503)
    }


REFUSALS = {
    400: "What was sent is not right; the words tell what.",
    401: "No key, or one that opens nothing.",
    403: "The key may not do this.",
    404: "There is nothing of this id or name.",
    409: "It cannot be done any more.",
    413: "The body is over the bound.",
    429: "Too many requests; Retry-After tells when to come back.",
    503: "The store does not answer; nothing was accepted.",
}


def _path(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": _text(minLength=1)}


def _query(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _body(schema: Schema) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _list_of(name: str) -> Schema:
    return {"type": "array", "items": _ref(name)}


LIST_QUERY = [
    _query("name", _text(description="Events of this name alone; ours (flows/...) are shown when named.")),
    _query("received_after", MOMENT),
    _query("received_before", MOMENT),
    _query("cursor", _text(description="`metadata.cursor` of the page before.")),
    _query("limit", {"type": "integer", "minimum": 1, "maximum": 100}),
]
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": _text(minLength=1, maxLength=256, pattern="^[!-~]+$"),
    "description": "The same key and data start the flow once.",
}
FREE: list[Any] = []

PATHS: dict[str, Any] = {
    "/e/{key}": {
        "post": {
            "operationId": "sendEvents",
            "summary": "Send an event, or a list of at most 5,000: all are stored, or none.",
            "security": FREE,
            "parameters": [_path("key")],
            "requestBody": _body({"anyOf": [_ref("NewEvent"), {"type": "array", "items": _ref("NewEvent")}]}),
            "responses": {
                "200": {"description": "Committed.", "content": {"application/json": {"schema": _ref("Sent")}}},
                **_refusals(400, 413),
            },
        }
    },
    "/hooks/{source}": {
        "post": {
            "operationId": "callHook",
            "summary": "A call of another service, signed as `flows_hooks` tells.",
            "security": FREE,
            "parameters": [_path("source")],
            "requestBody": _body(ANYTHING),
            "responses": {
                "200": {"description": "Committed.", "content": {"application/json": {"schema": {"type": "object"}}}},
                **_refusals(400, 404, 413),
            },
        }
    },
    "/v1/events": {
        "get": {
            "operationId": "listEvents",
            "summary": "Events, the newest first.",
            "parameters": LIST_QUERY,
            "responses": _answers(_list_of("Event"), 400),
        }
    },
    "/v1/events/{event_id}": {
        "get": {
            "operationId": "getEvent",
            "summary": "One event by our id.",
            "parameters": [_path("event_id")],
            "responses": _answers(_ref("Event"), 404),
        }
    },
    "/v1/events/{event_id}/runs": {
        "get": {
            "operationId": "listRunsOfEvent",
            "summary": "The runs that an event started.",
            "parameters": [_path("event_id")],
            "responses": _answers(_list_of("Run"), 404),
        }
    },
    "/v1/runs/{run_id}": {
        "get": {
            "operationId": "getRun",
            "summary": "One run.",
            "parameters": [_path("run_id")],
            "responses": _answers(_ref("Run"), 404),
        },
        "delete": {
            "operationId": "cancelRun",
            "summary": "Cancel a run.",
            "parameters": [_path("run_id")],
            "responses": _answers(_ref("Run"), 400, 404, 409),
        },
    },
    "/v1/cancellations": {
        "post": {
            "operationId": "cancelRuns",
            "summary": "Cancel the runs of a flow that have not ended.",
            "requestBody": _body(_ref("Cancellation")),
            "responses": _answers(_ref("Cancelled"), 400, 404, 413),
        }
    },
    "/v1/signals": {
        "post": {
            "operationId": "sendSignal",
            "summary": "Wake the run that waits for a signal.",
            "requestBody": _body(_ref("Signal")),
            "responses": _answers(_ref("RunId"), 400, 404, 413),
        }
    },
    "/v1/flows/{flow}/invoke": {
        "post": {
            "operationId": "invokeFlow",
            "summary": "Start a flow.",
            "parameters": [_path("flow"), IDEMPOTENCY_KEY],
            "requestBody": _body(_ref("Invocation")),
            "responses": _answers(_ref("RunId"), 400, 404, 409, 413),
        }
    },
    "/v1/openapi.json": {
        "get": {
            "operationId": "getDocument",
            "summary": "This document.",
            "responses": {
                "200": {"description": "It.", "content": {"application/json": {"schema": {"type": "object"}}}},
                **_refusals(400),
            },
        }
    },
}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "celeryflows", "version": "1", "description": "Send events, look at runs, act on them."},
    "paths": PATHS,
    "security": [{"key": []}],
    "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}, "schemas": SCHEMAS},
}
