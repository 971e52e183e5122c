"""Errors as a page: what is missing, what was wrong in the question, what does not answer. Never how it came about."""

import logging

from flask import Response, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as Answer

from celeryflows import FlowsError, StoreError, UnknownEvent, UnknownFlow, UnknownRun
from flask_dashboard.auth import roles
from flask_dashboard.bounds import headers_of

logger = logging.getLogger("celeryflows.dashboard")

MISSING = (UnknownRun, UnknownFlow, UnknownEvent)
NO_STORE = "The store does not answer, or not in time. Nothing is lost; the page tries again. The log has the details."


def tell(error: FlowsError) -> tuple[str, int]:
    """The page of one of our own errors."""
    if isinstance(error, StoreError):
        logger.error("the dashboard's store: %s", error)
        return _page(503, NO_STORE)
    if isinstance(error, MISSING):
        return _page(404, _without_place(str(error)))
    return _page(400, str(error))


def tell_http(error: HTTPException) -> Answer:
    """The page of an error of HTTP; a stranger who could log in is asked to."""
    if error.code == 401 and request.method == "GET":
        following = request.full_path.rstrip("?")
        return redirect(url_for(".login", next=following))
    words, code = _page(error.code or 500, error.description or "")
    return Response(words, code, headers_of(error))


def _page(code: int, words: str) -> tuple[str, int]:
    # A page would tell a stranger what there is.
    if not roles():
        return render_template("flows/refused.html", code=code, words=words), code
    return render_template("flows/error.html", code=code, words=words), code


def _without_place(words: str) -> str:
    """Where the store is, is nothing for a page."""
    return words.partition(" in the store ")[0]
