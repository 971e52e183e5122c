"""What every page keeps, whoever asks: who may look, what an answer carries, what a payload can never become."""

import re

from flask import Flask

from celeryflows.console.session_key import session_key
from flask_dashboard import create_app, create_blueprint

SCRIPT = "<script>alert(1)</script>"


def test_a_page_runs_and_loads_nothing_but_what_the_dashboard_brings(browser):
    answer = browser.get("/runs")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=|<style", answer.text)
    assert not re.search(r"(?:src|href)=.(?:https?:)?//", answer.text)


def test_a_script_in_a_payload_stays_text(shop, browser):
    shop.send(f"user/{SCRIPT}", {SCRIPT: SCRIPT})
    shop.send("user/came", {"name": SCRIPT})
    assert SCRIPT not in browser.get("/runs").text


def test_who_comes_by_another_name_of_this_host_or_through_a_proxy_sees_nothing(browser):
    assert browser.get("/runs").status_code == 200
    assert browser.get("/runs", headers={"Host": "rebound.example:8288"}).status_code == 403
    assert browser.get("/runs", headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 403
    assert browser.get("/runs", environ_base={"REMOTE_ADDR": "192.0.2.7"}).status_code == 403


def test_a_page_that_is_not_there_says_so_and_not_where_the_store_is(browser):
    answer = browser.get("/runs/none")
    assert answer.status_code == 404
    assert "sqlite" not in answer.text
    assert browser.get("/nowhere").status_code == 404


def test_a_part_that_did_not_change_is_not_sent_again(shop, browser):
    shop.send("user/came", {})
    first = browser.get("/runs?part=live")
    assert "<html" not in first.text
    assert "greet" in first.text
    again = browser.get("/runs?part=live", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    shop.send("user/came", {})
    assert browser.get("/runs?part=live", headers={"If-None-Match": first.headers["ETag"]}).status_code == 200


def test_all_processes_of_a_dashboard_read_each_others_sessions(shop):
    assert create_app(shop).secret_key == create_app(shop).secret_key == session_key(shop.runtime)


def test_the_dashboard_has_a_place_in_another_app(shop):
    app = Flask(__name__)
    app.secret_key = "of the other app"
    app.register_blueprint(create_blueprint(shop), url_prefix="/flows")
    browser = app.test_client()
    page = browser.get("/flows/runs")
    assert page.status_code == 200
    assert "/flows/static/" in page.text
    assert "Content-Security-Policy" in page.headers


def posts(dashboard) -> list[str]:
    """The address of every act of the pages, with something in place of its words."""
    rules = [rule for rule in dashboard.url_map.iter_rules() if ".pages." in rule.endpoint and "POST" in rule.methods]
    return [re.sub(r"<[^>]+>", "greet", rule.rule) for rule in rules]


def test_every_act_of_a_page_is_refused_without_the_token_of_its_session(dashboard, browser):
    browser.get("/runs")
    assert len(posts(dashboard)) >= 10
    for path in posts(dashboard):
        assert browser.post(path, data={"csrf_token": "made up"}).status_code == 400, path
        assert browser.post(path).status_code == 400, path


def test_every_act_of_a_page_asks_for_the_role_that_may(dashboard):
    to_come_and_go = {"flows.pages.login_with", "flows.pages.logout"}
    rules = [rule for rule in dashboard.url_map.iter_rules() if ".pages." in rule.endpoint and "POST" in rule.methods]
    rules = [rule for rule in rules if rule.endpoint not in to_come_and_go]
    assert {getattr(dashboard.view_functions[rule.endpoint], "needs", None) for rule in rules} == {"act"}


def test_a_question_never_leads_elsewhere(browser):
    page = browser.get("/runs?_external=1&_scheme=javascript&_anchor=x&endpoint=y&flow=greet")
    assert page.status_code == 200
    assert "javascript:" not in page.text
    assert 'href="http' not in page.text


def test_each_page_answers_where_nothing_has_happened_yet(dashboard, browser):
    for path in ("/", "/runs", "/events", "/flows", "/flows/greet", "/failures", "/figures", "/limits", "/workers"):
        assert browser.get(path).status_code == 200, path
    for path in ("/replays", "/send", "/runs-filtered", "/figures?range=30d&flow=greet", "/runs?status=bogus"):
        assert browser.get(path).status_code == 200, path
    for path in ("/events/none", "/flows/none", "/runs/none", "/runs/none/test"):
        assert browser.get(path).status_code == 404, path


def test_a_page_is_cached_by_nobody_and_its_files_for_ever(browser):
    (sheet, *_) = re.findall(r'href="(/static/[^"]+css[^"]+)"', browser.get("/runs").text)
    with browser.get(sheet.replace("&amp;", "&")) as answer:
        assert "immutable" in answer.headers["Cache-Control"]
