"""`flows send`, `cancel` and `db` act on a real store, and refuse in one line what cannot be done."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from celery import Celery

from celeryflows.store.database import Store
from celeryflows.store.upgrade import downgrade, upgrade
from celeryflows.store.versions import newest_version, schema_version
from tests.acceptance.terminal import Terminal, busy, close, ready, shop
from tests.servers import free_port

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def test_send_stores_the_event_and_tells_the_runs_that_it_started(terminal):
    sent = terminal.json("send", "order/placed", '{"id": 7}', "--id", "order-7")

    (event,) = terminal.json("events")["events"]
    assert (event["id"], event["key"], event["data"]) == (sent["id"], "order-7", {"id": 7})
    assert {run["flow"] for run in sent["runs"]} == {"ship", "bill", "ask", "thank"}
    assert {run["status"] for run in sent["runs"]} == {"queued"}


def test_send_says_so_when_nothing_starts(terminal):
    done = terminal("send", "order/unknown")

    assert done.exit_code == 0
    assert done.stdout.splitlines()[1] == "it starts no flow; `flows list` shows which events do"


def test_send_says_so_when_no_worker_is_alive(terminal):
    done = terminal("send", "order/placed", '{"id": 1}')

    assert "no worker is alive" in done.stderr
    assert len(done.stdout.splitlines()) == 4


def test_send_takes_its_data_from_stdin(terminal):
    terminal("send", "a/b", "-", stdin='{"from": "stdin"}')

    assert terminal.json("events")["events"][0]["data"] == {"from": "stdin"}


def test_send_without_data_sends_an_empty_object(terminal):
    terminal("send", "a/b")

    assert terminal.json("events")["events"][0]["data"] == {}


def test_a_later_ts_delays_the_runs(terminal):
    sent = terminal.json("send", "order/placed", '{"id": 1}', "--ts", "2099-01-01T00:00:00Z")

    assert {run["status"] for run in sent["runs"]} == {"scheduled"}


@pytest.mark.parametrize(("ts", "shown"), [("1767225600000", "2026-01-01T00:00:00"), ("2026-01-01T01:00+01:00",) * 2])
def test_ts_is_iso_text_or_milliseconds(terminal, ts, shown):
    terminal("send", "a/b", "--ts", ts)

    assert terminal.json("events")["events"][0]["ts"].startswith("2026-01-01T00:00:00")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a/b", "{"], "not valid JSON"),
        (["a/b", "[1]"], "an object is wanted"),
        (["a/b", '{"a": 1, "a": 2}'], "stands twice"),
        (["a/b", '{"a": NaN}'], "JSON"),
        (["a/b", "--ts", "yesterday"], "no ISO moment"),
        (["a/b", "--ts", "2026-01-01T00:00:00"], "no time zone"),
        (["a/b", "--ts", "12"], "before 1980"),
        (["flows/mine"], "reserved"),
        (["a/*"], "holds '*'"),
        (["a/b", "--id", ""], "1 to 256 characters"),
        ([], "Missing argument 'NAME'"),
    ],
)
def test_send_refuses_what_cannot_be_right_and_stores_nothing(terminal, words, said):
    assert said in terminal.refused("send", *words, code=2)
    assert terminal.json("events", "--own")["events"] == []


def test_an_event_is_accepted_while_the_broker_is_down(store_url):
    app = shop(f"redis://127.0.0.1:{free_port()}/0", ready(store_url))
    terminal = Terminal(app)

    assert len(terminal.json("send", "order/placed", '{"id": 7}')["runs"]) == 4
    assert len(terminal.json("runs", "--status", "queued")["runs"]) == 4
    close(app)


def test_cancel_ends_a_sleeping_run_with_the_reason(terminal):
    run = busy(terminal.app)["ship"]

    assert terminal("cancel", run, "--because", "a duplicate").stdout == f"cancelled {run}\n"
    shown = terminal.json("show", run)
    assert (shown["run"]["status"], shown["run"]["reason"]) == ("cancelled", "a duplicate")
    assert shown["steps"][1]["standing"] == "closed"
    assert "reason a duplicate" in terminal("show", run).stdout


def test_cancel_of_an_ended_run_fails_and_says_how_it_ended(terminal):
    run = busy(terminal.app)["thank"]

    assert terminal.refused("cancel", run) == f"Run {run} has ended already: completed. Nothing was changed."


def test_cancel_of_an_unknown_run_fails(terminal):
    assert terminal.refused("cancel", "nobody").startswith("No run 'nobody' in the store ")


# -- db


def test_upgrade_makes_the_schema_of_an_empty_database_and_may_be_repeated(broker_url, store_url):
    terminal = Terminal(shop(broker_url, store_url))

    assert terminal.json("db", "version")["have"] is None
    first, second = terminal("db", "upgrade"), terminal("db", "upgrade")

    assert first.exit_code == second.exit_code == 0
    assert first.stdout.endswith(f"has schema {newest_version()}\n")
    assert terminal.json("db", "version")["have"] == newest_version()
    close(terminal.app)


def test_a_server_s_store_without_a_schema_names_the_command_that_makes_it(broker_url, postgres_url):
    terminal = Terminal(shop(broker_url, postgres_url))

    assert terminal.refused("runs").endswith("Run: celery -A <app> flows db upgrade")


def test_a_server_s_store_that_was_brought_back_can_be_upgraded_again(broker_url, postgres_url):
    store = Store(postgres_url)
    upgrade(store)
    downgrade(store, "base")
    terminal = Terminal(shop(broker_url, postgres_url))

    assert "has no schema yet" in terminal("db", "version").stdout
    assert terminal("db", "upgrade").exit_code == 0
    assert schema_version(store) == newest_version()
    store.dispose()


def test_a_user_who_may_not_make_tables_is_told_so(broker_url, postgres_url, postgres_server):
    name = urlsplit(postgres_url).path[1:]
    with postgres_server.connect(name) as connection:
        connection.execute(f"CREATE ROLE visitor_{name} LOGIN")
    terminal = Terminal(shop(broker_url, postgres_url.replace("//postgres@", f"//visitor_{name}@")))

    said = terminal.refused("db", "upgrade")

    assert "permission denied" in said
    assert said.endswith("Run this as a user that may create tables.")
    with postgres_server.connect(name) as connection:
        connection.execute(f"DROP ROLE visitor_{name}")


def test_asking_for_the_version_does_not_make_a_file(broker_url, sqlite_url, tmp_path):
    assert Terminal(shop(broker_url, sqlite_url)).json("db", "version")["have"] is None
    assert list(tmp_path.iterdir()) == []


# -- apps and stores that do not fit


@pytest.mark.parametrize(
    "words", [["runs"], ["send", "a/b"], ["show", "x"], ["list"], ["db", "upgrade"], ["db", "version"]]
)
def test_a_store_that_is_down_is_told_in_one_line(broker_url, words):
    said = Terminal(shop(broker_url, NOWHERE)).refused(*words)

    assert "does not answer" in said
    assert "flows_store_url" in said


def test_a_store_url_that_is_none_is_told_in_one_line(broker_url):
    assert "flows_store_url" in Terminal(shop(broker_url, "mongodb://localhost/x")).refused("runs")


def test_a_misspelt_setting_is_told_with_the_right_one(broker_url, sqlite_url):
    terminal = Terminal(shop(broker_url, sqlite_url, flows_dead_afer="20s"))

    assert terminal.refused("runs") == "Unknown setting flows_dead_afer. Did you mean flows_dead_after?"


def test_an_app_without_flows_is_wrong_usage_with_the_remedy():
    app = Celery("plain", set_as_current=False)

    assert Terminal(app).refused("runs", code=2) == (
        "The app 'plain' has no Flows. Make one beside it: flows = Flows(app)"
    )


def test_a_module_of_the_app_that_cannot_be_imported_is_told_with_its_place(broker_url, sqlite_url):
    app = shop(broker_url, sqlite_url, imports=["no_such_module_of_ours"])

    assert "No module named 'no_such_module_of_ours'" in Terminal(app).refused("runs")


def run_celery(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The real command line."""
    return subprocess.run([sys.executable, "-m", "celery", *words], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_the_command_is_there_for_every_app_that_celery_loads(tmp_path, sqlite_url):
    (tmp_path / "my_shop.py").write_text(
        "from celery import Celery\nfrom celeryflows import Flows\n"
        f'app = Celery("my_shop")\napp.conf.flows_store_url = "{sqlite_url}"\nflows = Flows(app)\n'
        '@flows.flow(name="hello", trigger="a/b")\ndef hello(ctx): pass\n'
    )

    done = run_celery("-A", "my_shop", "flows", "list", cwd=tmp_path)

    assert done.returncode == 0
    assert "hello" in done.stdout
    assert done.stderr == ""


def test_without_an_app_the_command_says_how_to_name_one(tmp_path):
    done = run_celery("flows", "runs", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (2, "Error: Name your app: celery -A <module> flows ...\n")
