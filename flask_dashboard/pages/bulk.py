"""What is filtered on the list of runs, cancelled or replayed as a whole."""

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, flash, redirect, request, url_for
from werkzeug.wrappers import Response as Answer

from celeryflows import FlowsError, Status, StoreError
from celeryflows.console import actions
from celeryflows.console.flows import flow_names
from celeryflows.console.searching import ended_states, open_states
from flask_dashboard.auth import acting
from flask_dashboard.desk import runtime
from flask_dashboard.pages.runs import Query, read_query
from flask_dashboard.pages.showing import show
from flask_dashboard.presenters.links import asked, with_questions

BY_HAND = "cancelled on the dashboard"
# What a request does of it: the next one goes on.
SECONDS = 10.0


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/runs-filtered", "show_filtered", show_filtered)
    pages.add_url_rule("/runs-filtered/cancel", "cancel_filtered", cancel_filtered, methods=["POST"])
    pages.add_url_rule("/runs-filtered/replay", "replay_filtered", replay_filtered, methods=["POST"])


@acting
def show_filtered() -> Response:
    """How many runs would be cancelled, how many replayed."""
    query, problem, to_cancel, to_replay = read_query(), "", 0, 0
    try:
        if not query.status or query.status in open_states():
            to_cancel = sum(actions.count_open(runtime(), chosen) for chosen in _open(query))
        if not query.status or query.status in ended_states():
            to_replay = sum(actions.count_replay(runtime(), flow, **_ended(query)) for flow in _flows(query))
    except StoreError:
        raise
    except (FlowsError, ValueError) as error:
        problem = str(error)
    return show(
        "flows/filtered.html",
        query=query,
        problem=problem,
        to_cancel=to_cancel,
        to_replay=to_replay,
        back_url=_at(".list_runs"),
        cancel_url=_at(".cancel_filtered"),
        replay_url=_at(".replay_filtered"),
        statuses=[query.status] if query.status else ["failed"],
    )


@acting
def cancel_filtered() -> Answer:
    """Cancel them, as far as a request goes."""
    query, done, whole = read_query(), 0, True
    because = request.form.get("because", "").strip() or BY_HAND
    for chosen in _open(query):
        count, whole = actions.cancel_while(runtime(), chosen, because=because, seconds=SECONDS)
        done += count
        if not whole:
            break
    flash(f"{done:,} runs are cancelled." + ("" if whole else " There are more: cancel again to go on."), "good")
    return redirect(_at(".list_runs"))


@acting
def replay_filtered() -> Answer:
    """Start them again at a pace; leads to the replays."""
    query = read_query()
    try:
        for flow in _flows(query):
            if actions.count_replay(runtime(), flow, **_ended(query)):
                actions.replay(runtime(), flow, pace=float(request.form.get("pace") or 10), **_ended(query))
    except StoreError:
        raise
    except (FlowsError, ValueError) as error:
        flash(str(error), "bad")
        return redirect(_at(".show_filtered"))
    flash("The replay is under way.", "good")
    return redirect(url_for(".list_replays"))


def _at(view: str) -> str:
    return with_questions(url_for(view), asked("cursor"))


def _flows(query: Query) -> list[str]:
    return [query.flow] if query.flow else flow_names(runtime())


def _open(query: Query) -> Iterator[Any]:
    asked = _asked(query)
    for flow in _flows(query):
        yield actions.select_open(runtime(), flow, status=query.status or None, **asked)


def _ended(query: Query) -> dict[str, Any]:
    return {"status": query.status or Status.FAILED.value, **_asked(query)}


def _asked(query: Query) -> dict[str, Any]:
    """The filters as conditions: the event's name is one more."""
    wanted = query.wanted()
    conditions = [f"({wanted['if_exp']})"] if wanted["if_exp"] else []
    if query.event:
        conditions.append(f"event.name == {_quoted(query.event)}")
    return {"after": wanted["after"], "before": wanted["before"], "if_exp": " && ".join(conditions) or None}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
