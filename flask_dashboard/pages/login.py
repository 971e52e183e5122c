"""Logging in and out."""

from flask import Blueprint, abort, g, redirect, render_template, request, session, url_for
from flask_login import login_user, logout_user
from werkzeug.wrappers import Response as Answer

from celeryflows.console.audit import audited
from celeryflows.console.doors import DoorSettings
from flask_dashboard.auth import visitor
from flask_dashboard.desk import runtime
from flask_dashboard.pages.guard import token
from flask_dashboard.sessions import Member, member_of

LONGEST = 256


def add_to(pages: Blueprint) -> None:
    """The routes."""
    pages.add_url_rule("/login", "login", ask)
    pages.add_url_rule("/login", "login_with", log_in, methods=["POST"])
    pages.add_url_rule("/logout", "logout", log_out, methods=["POST"])


def ask() -> str:
    """The page that asks who it is."""
    if not _settings().users:
        abort(404)
    return render_template("flows/login.html", following=_following(), token=token())


def log_in() -> Answer | tuple[str, int]:
    """Let in who has name and password."""
    if not _settings().users:
        abort(404)
    g.door.bounds.pass_one("login", request)
    name, password = request.form.get("name", "")[:LONGEST], request.form.get("password", "")[:LONGEST]
    member = member_of(_settings(), name, password)
    if member is None:
        _write_down(name, "log in, refused")
        words = "Name or password is wrong."
        return render_template("flows/login.html", following=_following(), token=token(), words=words), 401
    _write_down(name, "log in")
    _begin(member)
    return redirect(_following())


def log_out() -> Answer:
    """End the login."""
    _write_down(visitor().name, "log out")
    logout_user()
    session.clear()
    return redirect(url_for(".login"))


def _begin(member: Member) -> None:
    # Nothing that somebody else may have put into the session goes on.
    session.clear()
    login_user(member)


def _write_down(name: str, action: str) -> None:
    with audited(runtime(), who=name or "nobody", via="page", action=action, subject=request.remote_addr or ""):
        pass


def _following() -> str:
    """Where to go then: a page of ours, never another host."""
    wanted = request.values.get("next", "")
    is_ours = wanted.startswith("/") and wanted[1:2] not in ("/", "\\") and wanted.isprintable()
    return wanted if is_ours else url_for(".list_runs")


def _settings() -> DoorSettings:
    found: DoorSettings = g.door.settings
    return found
