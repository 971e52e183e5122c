"""`flows doctor` finds what is wrong with broker, store, clock, settings and workers, and says what to do about it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from celeryflows.celery_bridge.broker import CeleryBroker
from celeryflows.clock import SystemClock
from celeryflows.console.doctor_store import StoreFacts, check_store, look_at
from celeryflows.console.findings import Level
from celeryflows.durations import MINUTE, SECOND
from celeryflows.engine.registrar import register_worker
from celeryflows.engine.settings import Settings
from celeryflows.store.database import Store
from celeryflows.store.upgrade import downgrade, upgrade
from celeryflows.store.workers import WorkerRow
from tests.acceptance.terminal import Terminal, busy, close, shop
from tests.servers import free_port


@pytest.fixture
def terminal(broker_url: str, store_url: str) -> Iterator[Terminal]:
    store = Store(store_url)
    upgrade(store)
    store.dispose()
    app = shop(broker_url, store_url)
    yield Terminal(app)
    close(app)


class Report:
    """What the doctor says, by subject."""

    def __init__(self, terminal: Terminal) -> None:
        self.done = terminal("doctor", "--json")
        self.findings = {finding["subject"]: finding for finding in json.loads(self.done.stdout)["findings"]}
        assert (self.done.exit_code == 1) == ("bad" in {finding["level"] for finding in self.findings.values()})

    def __call__(self, subject: str) -> tuple[str, str]:
        found = self.findings[subject]
        return found["level"], f"{found['text']} {found['remedy']}"

    @property
    def bad(self) -> set[str]:
        return {subject for subject, found in self.findings.items() if found["level"] == "bad"}


def enter_worker(terminal: Terminal, **facts: Any) -> None:
    """A worker that beats, as a living one would have entered itself."""
    runtime = terminal.app.flows.runtime
    row = {
        "id": "w1",
        "app": "shop",
        "release": "r",
        "host": "celery@one",
        "pid": 7,
        "pool": "prefork",
        "queues": "celery",
    }
    with runtime.store.connection() as connection:
        connection.workers.start(WorkerRow(**{**row, **facts}))
    register_worker(runtime)


def test_a_healthy_app_is_well_and_every_finding_is_told_in_one_line(terminal):
    enter_worker(terminal)
    with terminal.app.flows.runtime.store.connection() as connection:
        connection.workers.lead("w1", MINUTE)

    done = terminal("doctor")

    assert done.exit_code == 0
    assert {line.split(" ", 1)[0] for line in done.stdout.splitlines()} == {"ok"}
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
    store = Store(store_url)
    upgrade(store)
    store.dispose()
    port = free_port()
    report = Report(Terminal(shop(f"redis://:secret@127.0.0.1:{port}/0", store_url)))

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


def test_a_schema_of_a_newer_celeryflows_is_bad(terminal):
    with terminal.app.flows.runtime.store.connection() as connection:
        connection.execute("UPDATE flows_schema SET version_num = '9999'")

    level, text = Report(terminal)("schema")

    assert level == "bad"
    assert "newer" in text


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


def test_no_living_worker_is_a_warning_with_the_remedy(terminal):
    level, text = Report(terminal)("workers")

    assert level == "warn"
    assert text.endswith("Start one: celery -A <app> worker")


def test_a_worker_that_has_not_beaten_for_long_is_not_alive(terminal):
    enter_worker(terminal)
    with terminal.app.flows.runtime.store.connection() as connection:
        connection.execute("UPDATE flows_workers SET beat_at = {now} - :long", long=21 * SECOND)

    assert "none is alive" in Report(terminal)("workers")[1]


def test_workers_of_one_app_that_declare_different_flows_are_a_warning(terminal):
    enter_worker(terminal)
    enter_worker(terminal, id="w2", release="r2")

    assert Report(terminal)("releases")[0] == "warn"


def test_workers_of_two_hosts_on_one_sqlite_file_are_bad(broker_url, sqlite_url):
    terminal = Terminal(shop(broker_url, sqlite_url))
    enter_worker(terminal)
    enter_worker(terminal, id="w2", host="celery@two")

    assert Report(terminal).bad == {"hosts"}
    close(terminal.app)


def test_messages_that_wait_in_the_broker_are_counted(terminal):
    busy(terminal.app)

    assert "celery 4" in Report(terminal)("messages")[1]


def test_runs_that_wait_long_for_a_worker_are_a_warning(terminal):
    terminal.app.flows.send("order/placed", {"id": 7})
    assert Report(terminal)("queued runs")[0] == "ok"
    with terminal.app.flows.runtime.store.connection() as connection:
        connection.execute("UPDATE flows_runs SET sent_at = {now} - :long", long=2 * MINUTE)

    level, text = Report(terminal)("queued runs")

    assert level == "warn"
    assert "4 wait for a worker, the oldest for 2" in text


def test_timers_and_events_that_nobody_takes_up_are_warnings(terminal):
    busy(terminal.app)
    with terminal.app.flows.runtime.store.connection() as connection:
        connection.execute("UPDATE flows_runs SET wake_at = {now} - :long WHERE status = 'suspended'", long=MINUTE)
        connection.execute("UPDATE flows_events SET arrived_at = NULL, stored_at = {now} - :long", long=MINUTE)

    report = Report(terminal)

    assert report("timers")[1].startswith("2 runs should have been woken")
    assert report("events")[1].startswith("1 are stored and not routed")


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
    assert StoreFacts("u", "sqlite", have="1", want="1").usable
    assert not StoreFacts("u", "sqlite", have=None, want="1").usable
    assert not StoreFacts("u", "sqlite", have="1", want="1", problem="down").usable
