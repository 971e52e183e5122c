"""Every request that changes something is written down before it is done, and what came of it after."""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Response, g, request

from celeryflows import StoreError
from celeryflows.console import audit

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# What says which runs were meant. No payload is written down.
TOLD = (
    *("flow", "status", "after", "before", "if_exp", "event", "name", "because", "from_step", "pace", "ids"),
    *("function_id", "started_after", "started_before", "if", "signal"),
)
LONGEST = 80


def audit_acts(blueprint: Blueprint, runtime: Callable[[], Any], who: Callable[[], str], *, via: str) -> None:
    """Audit every request of this blueprint that is no look. Whoever may not act is refused before."""

    @blueprint.before_request
    def begin() -> None:
        # Who comes and goes is written down by the login itself, within its own bound.
        if request.method not in SAFE and not (request.endpoint or "").endswith((".login_with", ".logout")):
            action = (request.endpoint or "").rpartition(".")[2]
            g.audit = audit.begin(runtime(), who=who(), via=via, action=action, subject=_subject())

    @blueprint.after_request
    def end(response: Response) -> Response:
        entry = g.pop("audit", None)
        if entry is not None:
            _end(runtime(), entry, response.status_code)
        return response


def _end(runtime: Any, entry: str, status: int) -> None:
    outcome = audit.DONE if status < 400 else f"refused: {status}"
    try:
        audit.end(runtime, entry, outcome)
    except StoreError:
        # It stays as begun; what was done is done, and the client has to hear of it.
        return


def _subject() -> str:
    given = {**request.args.to_dict(), **request.form.to_dict(), **_json()}
    words = [f"{name}={str(given[name])[:LONGEST]}" for name in TOLD if given.get(name) not in (None, "")]
    return " ".join([request.path, *words])


def _json() -> Mapping[str, Any]:
    value = g.get("json")
    return value if isinstance(value, dict) else {}
