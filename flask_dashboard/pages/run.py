"""One run: its steps on one time axis, what each of them did, and what can be done about it."""

import json
from typing import Any

from flask import Blueprint, Response, flash, redirect, request, url_for
from werkzeug.wrappers import Response as Answer

from celeryflows import RerunRefused
from celeryflows.console import actions
from celeryflows.console.run_pages import STEPS_AT_ONCE, RunPage, run_page, step_page, with_errors
from flask_dashboard.auth import acting
from flask_dashboard.desk import runtime
from flask_dashboard.pages.showing import LIVE, show
from flask_dashboard.presenters.links import asked, here, with_questions
from flask_dashboard.presenters.timeline import KINDS, timeline

BY_HAND = "cancelled on the dashboard"


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/runs/<run_id>", "show_run", show_run)
    pages.add_url_rule("/runs/<run_id>/cancel", "cancel_run", cancel_run, methods=["POST"])
    pages.add_url_rule("/runs/<run_id>/rerun", "rerun_run", rerun_run, methods=["POST"])


def show_run(run_id: str) -> Response:
    """Its header, its steps on one time axis, and what the chosen one did."""
    chosen, true_scale = request.args.get("step", ""), request.args.get("scale") == "true"
    page = run_page(runtime(), run_id, first=request.args.get("from", type=int), step=chosen)
    step = next((step for step in page.steps if step.id == chosen), None)
    return show(
        "flows/run.html",
        page=page,
        run=page.run,
        line=timeline(page, folded=not true_scale),
        true_scale=true_scale,
        scale_url=here(scale=None if true_scale else "true"),
        step=step,
        kind=KINDS.get(step.kind, step.kind) if step else "",
        held=step_page(runtime(), page, chosen) if step else None,
        tried=with_errors(runtime(), page, "") if step is None else (),
        child=next((child for child in page.children if step and child.run_id == step.child), None),
        ended=page.run.ended_at is not None,
        live_url=here(part=LIVE),
        step_url=_step_url(run_id),
        pager=_pager(page),
    )


def _pager(page: RunPage) -> dict[str, str]:
    """The pictures of other steps by what leads there."""
    last = (page.count - 1) // STEPS_AT_ONCE * STEPS_AT_ONCE
    earlier = {"First": 0, "Earlier": page.first - STEPS_AT_ONCE} if page.first > 0 else {}
    later = {"Later": page.first + STEPS_AT_ONCE, "Last": last} if page.first < last else {}
    return {word: here(step=None, **{"from": first}) for word, first in (earlier | later).items()}


def _step_url(run_id: str) -> str:
    """The page with another step, whose name is to follow: a run may have a thousand of them."""
    url = with_questions(url_for(".show_run", run_id=run_id), asked("step"))
    return f"{url}{'&' if '?' in url else '?'}step="


@acting
def cancel_run(run_id: str) -> Answer:
    """Cancel it."""
    done = actions.cancel(runtime(), run_id, because=request.form.get("because", "").strip() or BY_HAND)
    flash("The run is cancelled." if done else "The run had ended before.", "good" if done else "bad")
    return redirect(url_for(".show_run", run_id=run_id))


@acting
def rerun_run(run_id: str) -> Answer:
    """Run it again, whole or from a step, which may get other arguments; leads to the new run."""
    step = request.form.get("from_step") or None
    try:
        new = actions.rerun(runtime(), run_id, from_step=step, input=_input() if step else None)
    except (RerunRefused, ValueError) as error:
        flash(str(error), "bad")
        return redirect(url_for(".show_run", run_id=run_id, step=step))
    flash(f"Running again{f' from {step!r}' if step else ''}: this is the new run.", "good")
    return redirect(url_for(".show_run", run_id=new))


def _input() -> Any:
    text = request.form.get("input", "").strip()
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"The input is no JSON: {error}") from error
