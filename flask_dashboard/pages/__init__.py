"""The pages: each file serves one subject. All look through `guard`, and every POST carries a token."""

from flask import Blueprint
from werkzeug.exceptions import HTTPException

from celeryflows import FlowsError
from flask_dashboard.auditing import audit_acts
from flask_dashboard.auth import may, visitor
from flask_dashboard.desk import app_name, runtime
from flask_dashboard.pages import (
    bulk,
    events,
    failures,
    flow,
    flows,
    login,
    metrics,
    run,
    run_as_test,
    runs,
    send_event,
    standing,
    watching,
)
from flask_dashboard.pages.errors import tell, tell_http
from flask_dashboard.pages.guard import guard, token
from flask_dashboard.presenters.filters import FILTERS
from flask_dashboard.presenters.links import asset, here
from flask_dashboard.presenters.navigation import navigation

ROOMS = (runs, bulk, run, run_as_test, events, send_event, flows, flow, failures, metrics, standing, watching, login)


def create_pages() -> Blueprint:
    """All pages as a blueprint, to be registered in another."""
    pages = Blueprint("pages", "flask_dashboard", template_folder="templates", static_folder="static")
    pages.before_request(guard)
    audit_acts(pages, runtime, lambda: visitor().name, via="page")
    pages.register_error_handler(FlowsError, tell)
    pages.register_error_handler(HTTPException, tell_http)
    for room in ROOMS:
        room.add_to(pages)
    for name, present in FILTERS.items():
        pages.add_app_template_filter(present, f"flows_{name}")

    @pages.context_processor
    def words() -> dict[str, object]:
        return {
            "may": may,
            "visitor": visitor,
            "token": token,
            "asset": asset,
            "here": here,
            "navigation": navigation,
            "app_name": app_name,
        }

    return pages
