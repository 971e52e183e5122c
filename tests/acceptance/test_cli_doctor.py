"""`flows doctor` finds what is wrong with broker, store, clock, settings and workers, and says what to do about it."""

import pytest
import redis

from celeryflows.celery_bridge.broker import CeleryBroker
from celeryflows.clock import SystemClock
from celeryflows.console.doctor_store import StoreFacts, check_store, look_at
from celeryflows.console.findings import Level
from celeryflows.durations import MINUTE, SECOND
from celeryflows.engine.settings import Settings
from celeryflows.store.database import Store
from celeryflows.store.upgrade import downgrade, upgrade
from celeryflows.store.versions import newest_version
from tests.acceptance.terminal import Report, Terminal, close, enter_worker, ready, shop
from tests.servers import free_port


def test_a_healthy_app_is_well_and_every_finding_is_told_in_one_line(terminal):
    enter_worker(terminal)
    with terminal.app.flows.runtime.store.connection() as connection:
        connection.workers.lead("w1", MINUTE)

    done = terminal("doctor")

    assert done.exit_code == 0
    warned = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    # The MariaDB of the tests need not survive its machine, and the doctor says so.
    assert [line for line in warned if not line.startswith("warn durability: innodb_flush_log_at_trx_commit")] == []
    assert len(warned) == (terminal.app.flows.runtime.store.dialect.name == "mariadb")
    assert "workers: 1 alive: celery@one (pid 7, prefork, leads)" in done.stdout
    assert Report(terminal).findings.keys() >= {
        *("versions", "settings", "flows", "store", "schema", "clock"),
        *("broker", "store identity", "messages", "visibility_timeout", "workers", "queued runs"),
    }


def test_versions_name_python_celery_and_ourselves(terminal):
    level, text = Report(terminal)("versions")

    assert level == "ok"
    assert all(name in text for name in ("Python 3.", "celeryflows ", "celery 5.", "sqlalchemy "))


def test_a_broker_that_is_down_is_bad_and_everything_else_is_still_checked(store_url):
    port = free_port()
    report = Report(Terminal(shop(f"redis://:secret@127.0.0.1:{port}/0", ready(store_url))))

    level, text = report("broker")
    assert level == "bad"
    assert f"127.0.0.1:{port}/0 does not answer" in text
    assert "secret" not in report.done.output
    assert report("store")[0] == report("schema")[0] == "ok"


def test_a_store_that_is_down_is_bad_and_the_broker_is_still_checked(broker_url):
    report = Report(Terminal(shop(broker_url, "postgresql://me:secret@127.0.0.1:1/nothing")))

    level, text = report("store")
    assert level == "bad"
    assert "does not answer" in text
    assert "secret" not in report.done.output
    assert report("broker")[0] == "ok"
    assert "schema" not in report.findings


def test_a_server_s_store_without_a_schema_is_bad_with_the_command_that_makes_it(broker_url, postgres_url):
    level, text = Report(Terminal(shop(broker_url, postgres_url)))("schema")

    assert level == "bad"
    assert text.endswith("Run: celery -A <app> flows db upgrade")


@pytest.mark.parametrize(("since", "level"), [(newest_version(), "ok"), ("9999", "bad")])
def test_a_schema_of_a_newer_celeryflows_is_bad_unless_it_only_added(terminal, since, level):
    with terminal.app.flows.runtime.store.connection() as connection:
        connection.execute("UPDATE flows_schema SET version_num = '9999'")
        connection.flows.put_fact("schema_since", since)

    report = Report(terminal)

    assert report("schema")[0] == level
    assert "newer" in report("schema")[1]
    assert ("workers" in report.findings) == (level == "ok")


def test_an_sqlite_store_that_is_not_there_yet_is_well_and_is_not_made(broker_url, sqlite_url, tmp_path):
    report = Report(Terminal(shop(broker_url, sqlite_url)))

    assert report("store")[0] == "ok"
    assert "not there yet" in report("store")[1]
    assert list(tmp_path.iterdir()) == []


def test_an_sqlite_store_without_a_schema_is_well_since_the_next_worker_makes_it(broker_url, sqlite_url):
    store = Store(sqlite_url)
    upgrade(store)
    downgrade(store, "base")
    store.dispose()

    assert Report(Terminal(shop(broker_url, sqlite_url)))("schema")[0] == "ok"


@pytest.mark.parametrize(("ahead", "level"), [(0, "ok"), (5 * SECOND, "warn"), (-5 * SECOND, "warn"), (MINUTE, "bad")])
def test_a_clock_that_differs_from_the_store_s_is_found(postgres_url, ahead, level):
    class Skewed(SystemClock):
        def now(self) -> int:
            return super().now() + ahead

    store = Store(postgres_url, clock=Skewed())
    upgrade(store)

    clock = next(finding for finding in check_store(look_at(store, Settings())) if finding.subject == "clock")

    assert clock.level is Level(level)
    assert ("ahead" in clock.text) if ahead > 0 else ("behind" in clock.text) or ahead == 0


def test_a_broker_that_remembers_another_store_is_bad_with_both_named(terminal, broker_url):
    broker = CeleryBroker(terminal.app, "shop")
    broker.check_store("another", "postgresql://elsewhere/flows")
    broker.close()

    level, text = Report(terminal)("store identity")

    assert level == "bad"
    assert "postgresql://elsewhere/flows" in text
    assert "celeryflows:store:shop" in text


def test_a_broker_that_remembers_this_store_is_well_and_asking_writes_nothing(terminal, broker_url):
    report = Report(terminal)
    assert "remembers no store yet" in report("store identity")[1]
    with redis.Redis.from_url(broker_url) as client:
        assert client.keys("celeryflows:*") == []

    with terminal.app.flows.runtime.store.connection() as connection:
        identity = connection.flows.fact("identity")
    broker = CeleryBroker(terminal.app, "shop")
    broker.check_store(identity, "here")
    broker.close()

    assert Report(terminal)("store identity") == ("ok", "the broker remembers this store ")


def test_an_unknown_setting_is_bad_with_the_right_one(broker_url, sqlite_url):
    level, text = Report(Terminal(shop(broker_url, sqlite_url, flows_dead_afer="20s")))("settings")

    assert level == "bad"
    assert "Did you mean flows_dead_after?" in text


def test_a_store_url_that_cannot_be_used_is_bad(broker_url):
    assert Report(Terminal(shop(broker_url, "mongodb://localhost/x"))).bad == {"store"}


def test_a_short_visibility_timeout_is_a_warning(broker_url, sqlite_url):
    options = {"broker_transport_options": {"visibility_timeout": 30}}

    assert Report(Terminal(shop(broker_url, sqlite_url)))("visibility_timeout")[0] == "ok"
    assert Report(Terminal(shop(broker_url, sqlite_url, **options)))("visibility_timeout")[0] == "warn"


def test_eager_calls_and_a_broker_in_memory_are_warnings(sqlite_url):
    report = Report(Terminal(shop("memory://", sqlite_url, task_always_eager=True)))

    assert report("task_always_eager")[0] == report("broker")[0] == "warn"


def test_an_app_without_declared_flows_is_a_warning(broker_url, sqlite_url):
    terminal = Terminal(shop(broker_url, sqlite_url))
    terminal.app.flows_binding.flows.clear()

    assert Report(terminal)("flows")[0] == "warn"


def test_the_facts_of_a_store_say_whether_its_rows_can_be_read():
    assert StoreFacts("u", "sqlite", have="1", want="1", fits=True).usable
    assert not StoreFacts("u", "sqlite", have=None, want="1").usable
    assert not StoreFacts("u", "sqlite", have="1", want="1", fits=True, problem="down").usable


def test_a_postgresql_database_of_another_encoding_is_a_warning_with_what_to_do(broker_url, postgres_server):
    name = postgres_server.create_database(encoding="LATIN1")
    app = shop(broker_url, ready(postgres_server.url(name)))
    level, text = Report(Terminal(app))("encoding")
    close(app)
    postgres_server.drop_database(name)

    assert level == "warn"
    assert "in LATIN1" in text
    assert "ENCODING 'UTF8'" in text


def test_the_encoding_of_a_database_that_can_hold_all_text_is_no_finding(terminal):
    assert "encoding" not in Report(terminal).findings
