"""`flows doctor` on workers and on what waits for them: messages, runs, timers, events."""

from celeryflows.durations import MINUTE, SECOND
from tests.acceptance.terminal import Report, Terminal, busy, close, enter_worker, shop


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
