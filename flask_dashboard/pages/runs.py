"""Runs: the list with its filters."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Blueprint, Response, request, url_for

from celeryflows import ExpressionError, InvalidDuration, Status
from celeryflows.console.flows import flow_names
from celeryflows.console.pages import Page
from celeryflows.console.run_lines import RunLine, run_lines
from celeryflows.console.searching import wanted_runs
from flask_dashboard.desk import runtime
from flask_dashboard.pages.showing import LIVE, show
from flask_dashboard.presenters.links import asked, here, with_questions

A_PAGE = 50
# From and to are asked for by themselves.
CUSTOM = "custom"
RANGES = {
    "": ("Any time", None),
    "15m": ("Last 15 minutes", timedelta(minutes=15)),
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(days=1)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
    CUSTOM: ("From … to …", None),
}
OPEN = ("running", "queued", "suspended", "scheduled")
TABS = (None, *map(Status, (*OPEN, "completed", "failed", "cancelled", "skipped")))


@dataclass(frozen=True, slots=True)
class Query:
    """What the list was asked for, as it stands in the address."""

    status: str
    flow: str
    range: str
    event: str
    condition: str
    cursor: str
    after: str
    before: str

    @property
    def filtered(self) -> bool:
        """True when something is left out."""
        span = self.range if self.range != CUSTOM else ""
        return any((self.status, self.flow, span, self.event, self.condition, self.after, self.before))

    def wanted(self) -> dict[str, Any]:
        """For `wanted_runs`."""
        length = RANGES.get(self.range, ("", None))[1]
        return {
            "status": self.status or None,
            "flow": self.flow or None,
            "event": self.event or None,
            "if_exp": self.condition or None,
            "after": self.after or (None if length is None else datetime.now(UTC) - length),
            "before": self.before or None,
        }


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/", "home", list_runs)
    pages.add_url_rule("/runs", "list_runs", list_runs)


def read_query() -> Query:
    """From the address of the request."""
    args = request.args
    names = ("status", "flow", "range", "event", "if", "cursor", "after", "before")
    return Query(*(args.get(name, "").strip() for name in names))


def list_runs() -> Response:
    """The newest runs that fit."""
    query, problem = read_query(), ""
    page: Page[RunLine] = Page((), None)
    try:
        page = run_lines(runtime(), wanted_runs(**query.wanted()), limit=A_PAGE, cursor=query.cursor or None)
    except (ExpressionError, InvalidDuration, ValueError) as error:
        problem = str(error)
    return show(
        "flows/runs.html",
        page=page,
        query=query,
        problem=problem,
        filtered=query.filtered,
        first=not query.cursor,
        flow_names=flow_names(runtime()),
        ranges=[(key, label) for key, (label, _) in RANGES.items()],
        tabs=_tabs(query),
        live_url=None if query.cursor or problem else here(part=LIVE),
        filtered_url=with_questions(url_for(".show_filtered"), asked("cursor")),
        newest_url=here(cursor=None),
        older_url=here(cursor=page.next) if page.next else None,
    )


def _tabs(query: Query) -> list[dict[str, Any]]:
    return [
        {
            "label": "All" if status is None else status.value.capitalize(),
            "url": here(status=None if status is None else status.value, cursor=None),
            "here": query.status == (status or ""),
        }
        for status in TABS
    ]
