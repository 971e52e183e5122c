"""Promises of the dashboard inside a Django project: staff look, the permitted act, nobody else sees anything."""

import asyncio
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, _state
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.test import AsyncRequestFactory, RequestFactory
from django.urls import NoReverseMatch, resolve
from flask import Flask, request

from celeryflows import Flows
from celeryflows.contrib.django import mount
from celeryflows.contrib.django.links import dashboard_url, run_link

ROOT = "/of/flows/"


def user(*, staff: bool = False, active: bool = True, acts: bool = False) -> Any:
    """Somebody who is logged in."""
    return SimpleNamespace(
        get_username=lambda: "ann",
        is_authenticated=True,
        is_active=active,
        is_staff=staff,
        has_perm=lambda name: acts and name == mount.CHANGES,
    )


ANN, BOB = user(staff=True, acts=True), user(staff=True)


@pytest.fixture
def flows(sqlite_url: str) -> Iterator[Flows]:
    """The project's Flows, with a run that waits for a worker."""
    app = Celery("shop", broker="memory://")
    before = _state.default_app, _state._tls.current_app
    app.set_current()
    app.conf.flows_store_url = sqlite_url
    flows = Flows(app)
    flows.flow(name="pack", trigger="order/paid")(lambda ctx: None)
    mount._app.cache_clear()
    yield flows
    mount._app.cache_clear()
    flows.runtime.store.dispose()
    _state.default_app, _state._tls.current_app = before


def ask(path: str, by: Any, method: str = "get", **data: Any) -> Any:
    """A request to the project, as its URLs resolve it."""
    cookies, said = data.pop("cookies", None), data.pop("said", {})
    asked = getattr(RequestFactory(), method)(ROOT + path, data)
    asked.user = by
    asked.META.update(said)
    if cookies is not None:
        asked.META["HTTP_COOKIE"] = cookies.output(header="", sep=";", attrs=[]).strip()
    view, args, kwargs = resolve(asked.path)
    return view(asked, *args, **kwargs)


def body(answer: Any) -> str:
    return b"".join(answer).decode()


def test_staff_see_the_pages_with_links_below_the_mount(flows: Flows) -> None:
    flows.send("order/paid")
    run_id = flows.runs()[0].id

    page = body(ask("runs", BOB))

    assert f'href="{ROOT}runs/{run_id}"' in page
    assert not re.search(r'(?:href|src)="/(?!of/flows/)', page)
    assert ask(f"runs/{run_id}", BOB).status_code == 200
    assert ask("runs/nothing", BOB).status_code == 404


def test_what_a_page_loads_is_served_too(flows: Flows) -> None:
    found = re.findall(rf'(?:href|src)="{ROOT}(static/[^"]+)"', body(ask("", BOB)))

    assert found
    assert {ask(path.partition("?")[0], BOB).status_code for path in found} == {200}


@pytest.mark.parametrize(
    "stranger", [user(), user(staff=True, active=False), user(acts=True)], ids=["no staff", "left", "permitted alone"]
)
def test_who_is_no_staff_sees_nothing(flows: Flows, stranger: Any) -> None:
    for path in ("", "runs", "static/style.css", "e/key"):
        with pytest.raises(PermissionDenied):
            ask(path, stranger)


def test_who_is_not_logged_in_is_asked_to(flows: Flows) -> None:
    answer = ask("runs", AnonymousUser())

    assert (answer.status_code, answer.headers["Location"]) == (302, "/accounts/login/?next=/of/flows/runs")
    with pytest.raises(PermissionDenied):
        ask("e/key", AnonymousUser(), "post")


def test_the_permitted_cancel_a_run_with_the_pages_token_and_others_do_not(flows: Flows) -> None:
    flows.send("order/paid")
    (run,) = flows.runs()
    page = ask(f"runs/{run.id}", ANN)
    token = re.findall(r'name="csrf_token" value="([^"]+)"', body(page))[0]

    def cancel(by: Any, **form: Any) -> int:
        # Whatever a client says of its roles is a header, and none of ours.
        said = {"HTTP_CELERYFLOWS.ROLES": "act", "HTTP_CELERYFLOWS_ROLES": "act"}
        return int(ask(f"runs/{run.id}/cancel", by, "post", cookies=page.cookies, said=said, **form).status_code)

    assert cancel(ANN) == 400
    assert cancel(BOB, csrf_token=token) == 403
    assert flows.run(run.id).status == "queued"
    assert cancel(ANN, csrf_token=token) in (302, 303)
    assert flows.run(run.id).status == "cancelled"


def test_without_djangos_users_it_says_what_is_missing(flows: Flows) -> None:
    with pytest.raises(ImproperlyConfigured, match="AuthenticationMiddleware"):
        mount.dashboard(RequestFactory().get(ROOT), "")


# --- the bridge


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Flask:
    """An app that tells what it was asked, in the place of the dashboard."""
    app = Flask("echo")

    @app.route("/<path:path>", methods=["GET", "POST"])
    def tell(path: str) -> Any:
        told = f"{request.method} {request.script_root} {request.path} {request.query_string.decode()} "
        told += f"{request.environ['celeryflows.user']} {request.environ['celeryflows.roles']} "
        answer = app.response_class(told + request.get_data(as_text=True), 418, content_type="text/x-told")
        answer.set_cookie("a", "1", httponly=True, samesite="Strict")
        answer.set_cookie("b", "two words")
        return answer

    @app.route("/stream")
    def stream() -> Any:
        return app.response_class((f"{n};" for n in range(3)), content_type="text/event-stream")

    monkeypatch.setattr(mount, "_app", lambda: app)
    return app


def test_path_query_body_status_and_cookies_pass_through(echo: Flask) -> None:
    asked = RequestFactory().post(ROOT + "caf%C3%A9%20x/y?q=1%202", b"text", content_type="text/plain")
    asked.user = BOB

    answer = mount.dashboard(asked, "café x/y")

    assert answer.content.decode() == "POST /of/flows /café x/y q=1%202 ann ['look'] text"
    assert (answer.status_code, answer.headers["Content-Type"]) == (418, "text/x-told")
    assert answer.cookies["a"]["httponly"] is True
    assert answer.cookies["a"]["samesite"] == "Strict"
    assert answer.cookies["b"].value == "two words"


def test_a_stream_stays_one_under_wsgi_and_under_asgi(echo: Flask) -> None:
    asked = RequestFactory().get(ROOT + "stream")
    asked.user = BOB
    assert list(mount.dashboard(asked, "stream")) == [b"0;", b"1;", b"2;"]

    async def read() -> list[bytes]:
        asked = AsyncRequestFactory().get(ROOT + "stream")
        asked.user = BOB
        answer = await asyncio.to_thread(mount.dashboard, asked, "stream")
        return [row async for row in answer]

    assert asyncio.run(read()) == [b"0;", b"1;", b"2;"]


# --- links


def test_links_lead_into_the_dashboard_where_there_is_one() -> None:
    assert dashboard_url() == ROOT
    assert dashboard_url("flows/pack") == f"{ROOT}flows/pack"
    assert run_link("01A") == f'<a href="{ROOT}runs/01A">01A</a>'
    assert run_link("<b>", "the <run>") == f'<a href="{ROOT}runs/%3Cb%3E">the &lt;run&gt;</a>'
    assert run_link("") == ""


def test_without_a_dashboard_a_link_is_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeryflows.contrib.django.links.reverse", lambda *args, **options: _no_reverse())

    assert (dashboard_url(), run_link("01A"), run_link("01A", "run")) == (None, "01A", "run")


def _no_reverse() -> str:
    raise NoReverseMatch
