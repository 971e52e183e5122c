"""Who comes in: this host while nobody has said more, then users with passwords and whom a trusted proxy names."""

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_login import LoginManager
from werkzeug.security import generate_password_hash

from celeryflows import ConfigurationError, Flows
from celeryflows.console.audit import audit
from celeryflows.settings.doors import read_doors
from flask_dashboard import create_app, create_blueprint

PASSWORD = "correct horse battery staple"
HASH = generate_password_hash(PASSWORD, method="pbkdf2:sha256:1000")
USERS = {"ann": {"password": HASH, "role": "act"}, "bob": {"password": HASH}}
FAR = {"REMOTE_ADDR": "192.0.2.7"}


def client(shop: Flows, **settings: Any) -> FlaskClient:
    shop._wiring.current.app.conf.update(settings)
    return create_app(shop).test_client()


def token_of(text: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', text)
    assert found is not None
    return found[1]


def log_in(browser: FlaskClient, name: str, password: str = PASSWORD, **more: str) -> Any:
    page = browser.get("/login", environ_base=FAR)
    form = {"name": name, "password": password, "csrf_token": token_of(page.text), **more}
    return browser.post("/login", data=form, environ_base=FAR)


def paths(app: Flask) -> list[tuple[str, str]]:
    """Every page and act of the dashboard, with something in each place of its address."""
    found = []
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("flows.pages.") and not rule.endpoint.endswith(("static", ".login", ".login_with")):
            path = re.sub(r"<[^>]+>", "x", rule.rule)
            found += [(method, path) for method in sorted((rule.methods or set()) & {"GET", "POST"})]
    return found


def test_a_stranger_reaches_no_page_and_no_act(shop):
    browser = client(shop, flows_users=USERS)
    asked = paths(browser.application)
    assert len(asked) > 20
    for method, path in asked:
        for base in ({}, FAR):
            answer = browser.open(path, method=method, environ_base=base)
            assert answer.status_code in ((302,) if method == "GET" else (401,)), (method, path)
            assert "shop" not in answer.text
            if method == "GET":
                assert answer.location.startswith("/login?next=")


def test_somebody_elsewhere_is_refused_while_nobody_has_said_who_may_come(shop, browser):
    for method, path in paths(browser.application):
        answer = browser.open(path, method=method, environ_base=FAR)
        assert (answer.status_code, "shop" in answer.text) == (403, False), (method, path)
    assert browser.get("/login").status_code == 404


def test_who_looks_sees_every_page_and_may_do_nothing(shop):
    browser = client(shop, flows_users=USERS)
    assert log_in(browser, "bob").status_code == 302
    page = browser.get("/runs", environ_base=FAR)
    assert page.status_code == 200
    token = token_of(page.text)
    for method, path in paths(browser.application):
        if path == "/logout":
            continue
        answer = browser.open(path, method=method, data={"csrf_token": token}, environ_base=FAR)
        assert answer.status_code in ((200, 302, 304, 400, 403, 404) if method == "GET" else (403, 404)), (method, path)
    assert shop.runs() == []


def test_who_looks_is_offered_no_act_and_who_acts_is(shop):
    shop.send("user/came", {})
    (run,) = shop.runs()
    rules = {"late": {"when": "backlog", "to": "json://localhost"}}
    pages = ["runs", f"runs/{run.id}", "events", "flows", "flows/greet", "failures", "figures", "limits", "workers"]
    pages += ["replays", "alerts", "audit"]
    for name, offered in (("bob", set()), ("ann", {f"runs/{run.id}", "flows/greet", "alerts"})):
        browser = client(shop, flows_users=USERS, flows_alerts=rules)
        log_in(browser, name)
        found = {page: browser.get(f"/{page}", environ_base=FAR) for page in pages}
        assert {answer.status_code for answer in found.values()} == {200}
        # Whoever has come in may leave.
        acts = re.compile(r'formaction="|<form[^>]*method="post"[^>]*action="(?!/logout)')
        assert {page for page, answer in found.items() if acts.search(answer.text)} == offered


def test_who_acts_acts_and_is_written_down(shop):
    shop.send("user/came", {})
    (run,) = shop.runs()
    browser = client(shop, flows_users=USERS)
    log_in(browser, "ann")
    token = token_of(browser.get(f"/runs/{run.id}", environ_base=FAR).text)
    answer = browser.post(f"/runs/{run.id}/cancel", data={"csrf_token": token}, environ_base=FAR)

    assert answer.status_code == 302
    assert shop.run(run.id).status == "cancelled"
    done, came = audit(shop.runtime, who="ann").items
    assert (came.action, came.via, came.subject) == ("log in", "page", "192.0.2.7")
    assert (done.via, done.outcome) == ("page", "done")
    assert run.id in done.subject


def test_a_post_without_the_token_does_nothing(shop):
    shop.send("user/came", {})
    (run,) = shop.runs()
    browser = client(shop, flows_users=USERS)
    log_in(browser, "ann")
    for form in ({}, {"csrf_token": "forged"}):
        assert browser.post(f"/runs/{run.id}/cancel", data=form, environ_base=FAR).status_code == 400
    assert shop.run(run.id).status == "queued"


def test_a_wrong_name_or_password_is_refused_alike_and_written_down(shop):
    browser = client(shop, flows_users=USERS)
    wrong, unknown = log_in(browser, "ann", "guess"), log_in(browser, "eve")

    assert (wrong.status_code, unknown.status_code) == (401, 401)
    assert "Name or password is wrong" in wrong.text
    assert browser.get("/runs", environ_base=FAR).status_code == 302
    assert [entry.action for entry in audit(shop.runtime).items] == ["log in, refused"] * 2


def test_guessing_passwords_is_bounded(shop):
    browser = client(shop, flows_users=USERS, flows_rates={"login": "3/minute"})

    assert [log_in(browser, "ann", "guess").status_code for _ in range(4)] == [401, 401, 401, 429]
    assert log_in(browser, "ann").status_code == 429


def test_the_cookie_is_kept_from_scripts_and_other_sites(shop):
    answer = log_in(client(shop, flows_users=USERS), "ann")
    (cookie,) = (text for text in answer.headers.getlist("Set-Cookie") if text.startswith("flows_session="))

    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    by_tls = client(shop).get("/login", base_url="https://flows.example", environ_base=FAR)
    assert any(
        "Secure" in text.split("; ") for text in by_tls.headers.getlist("Set-Cookie") if "flows_session=" in text
    )


@pytest.mark.parametrize("following", ["https://evil.example/", "//evil.example", "/\\evil.example", "runs"])
def test_a_login_leads_to_no_other_host(shop, following):
    assert log_in(client(shop, flows_users=USERS), "ann", next=following).location == "/runs"
    assert log_in(client(shop), "ann", next="/events?name=a").location == "/events?name=a"


def test_who_logs_out_is_out(shop):
    browser = client(shop, flows_users=USERS)
    log_in(browser, "ann")
    token = token_of(browser.get("/runs", environ_base=FAR).text)
    assert browser.post("/logout", data={"csrf_token": token}, environ_base=FAR).status_code == 302

    assert browser.get("/runs", environ_base=FAR).status_code == 302


def test_a_cookie_ends_with_its_password_and_its_address(shop):
    browser = client(shop, flows_users=USERS)
    log_in(browser, "ann")
    cookie = browser.get_cookie("flows_session")
    assert cookie is not None
    assert browser.get("/runs", environ_base={"REMOTE_ADDR": "192.0.2.8"}).status_code == 302

    changed = client(shop, flows_users={"ann": {"password": generate_password_hash("new"), "role": "act"}})
    changed.set_cookie("flows_session", cookie.value)
    assert changed.get("/runs", environ_base=FAR).status_code == 302


PROXY = {"user": "X-Auth-User", "role": "X-Auth-Role", "from": ["10.0.0.0/8"]}


@pytest.mark.parametrize(
    ("address", "headers", "look", "act"),
    [
        ("10.1.2.3", {"X-Auth-User": "ann", "X-Auth-Role": "act"}, 200, 302),
        ("10.1.2.3", {"X-Auth-User": "bob", "X-Auth-Role": "look"}, 200, 403),
        ("10.1.2.3", {"X-Auth-User": "bob"}, 200, 403),
        ("10.1.2.3", {"X-Auth-User": "bob", "X-Auth-Role": "root"}, 403, 403),
        ("10.1.2.3", {"X-Auth-Role": "act"}, 403, 403),
        ("192.0.2.7", {"X-Auth-User": "ann", "X-Auth-Role": "act"}, 403, 403),
        ("127.0.0.1", {"X-Auth-User": "ann", "X-Auth-Role": "act"}, 403, 403),
    ],
)
def test_a_proxys_word_counts_from_its_address_alone(shop, address, headers, look, act):
    shop.send("user/came", {})
    (run,) = shop.runs()
    browser = client(shop, flows_proxy_login=PROXY)
    base = {"REMOTE_ADDR": address}
    page = browser.get("/runs", headers=headers, environ_base=base)
    assert page.status_code == look

    with browser.session_transaction() as session:
        session["seen"] = True
    token = token_of(page.text) if 'name="csrf_token"' in page.text else _token(browser.application, browser)
    form = {"csrf_token": token}
    answer = browser.post(f"/runs/{run.id}/cancel", data=form, headers=headers, environ_base=base)
    assert answer.status_code == act


def _token(app: Flask, browser: FlaskClient) -> str:
    """A token that fits the browser's session, as a form would have it."""
    from flask import session as at_hand
    from flask_wtf.csrf import generate_csrf

    with app.test_request_context():
        token = generate_csrf()
        raw = at_hand["csrf_token"]
    with browser.session_transaction() as session:
        session["csrf_token"] = raw
    return token


def test_an_app_with_a_login_of_its_own_is_told_how_to_say_who_may_come(shop):
    shop._wiring.current.app.conf.flows_users = USERS
    app = Flask(__name__)
    LoginManager(app)
    with pytest.raises(ConfigurationError, match=r"celeryflows\.roles"):
        app.register_blueprint(create_blueprint(shop), url_prefix="/flows")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"users": {"ann": {"password": "in clear"}}}, "hash-password"),
        ({"users": {"ann": {"password": HASH, "role": "root"}}}, "look, act"),
        ({"users": {"ann": HASH}}, "mapping"),
        ({"proxy_login": {"user": "X-User"}}, "addresses of the proxy"),
        ({"proxy_login": {"user": "X-User", "from": ["everywhere"]}}, "from"),
        ({"proxy_login": {"from": ["10.0.0.0/8"]}}, "header"),
        ({"rates": {"event": "1/second"}}, "Did you mean 'events'"),
        ({"rates": {"events": "many"}}, "100/second"),
        ({"secret_key": "short"}, "16 characters"),
        ({"event_keys": [None]}, "environment variable"),
        ({"max_body_bytes": 0}, "above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_and_not_shown(settings, words):
    with pytest.raises(ConfigurationError, match=words) as refused:
        read_doors(settings)
    assert "in clear" not in str(refused.value)
