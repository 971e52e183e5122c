"""`flows dev`, one command: finds or brings a broker, runs the worker, tells what happens, reloads, ends cleanly."""

import os
import signal
from urllib.request import urlopen

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celeryflows.console import runs as desk
from tests.acceptance.dev_process import WITHOUT_REDIS, Dev, developing
from tests.acceptance.terminal import Terminal, shop
from tests.servers import free_port
from tests.waiting import eventually

# Where there is no Redis at all these tests are for CI.
pytestmark = pytest.mark.usefixtures("redis_server")


def output_of(dev: Dev, run_id: str, within: float = 30.0) -> object:
    """The value of a run, once it has ended."""
    app = dev.client()
    try:
        return eventually(lambda: desk.run(app.flows.runtime, run_id).run.output, within=within, every=0.05)
    finally:
        app.flows.runtime.store.dispose()
        app.close()


def answers(port: int) -> bool:
    try:
        with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_an_app_whose_broker_is_not_there_gets_one_where_it_looks_for_it_and_ctrl_c_leaves_nothing(tmp_path):
    port = free_port()
    with developing(tmp_path, f"redis://127.0.0.1:{port}/3") as dev:
        dev.ready()
        run = dev.send(name="ann")

        dev.says("completed in")
        assert output_of(dev, run) == "hello ann"
        assert f"broker redis://127.0.0.1:{port}/3, an embedded Redis, where the app looks for its own" in dev.log
        tail = run[-6:]
        for line in (
            'event  user/came {"name": "ann"}',
            f"run    greet {tail}  started as {run}",
            f"step   greet {tail}  say  done in ",
            f"step   greet {tail}  pause  slept",
            f"run    greet {tail}  completed in ",
        ):
            assert dev.log.count(line) == 1, dev.log

        assert len(dev.left()) >= 5  # itself, Redis, the worker, its pool
        dev.signal(signal.SIGINT)

        assert dev.wait_end() == 0
        assert eventually(lambda: not dev.left())
        assert not answers(port)
        assert "Traceback" not in dev.log


def test_an_app_whose_broker_answers_runs_on_it_and_leaves_it_alone(tmp_path, broker_url, redis_server):
    with developing(tmp_path, broker_url, "--pool", "threads", "--no-reload") as dev:
        dev.ready()
        assert output_of(dev, dev.send(name="bob")) == "hello bob"
        assert f"broker {broker_url}, the app's own" in dev.log
        assert "worker threads, 2 at once; no reload" in dev.log

        dev.signal(signal.SIGTERM)

        assert dev.wait_end() == 0
        assert eventually(lambda: not dev.left())
        assert answers(redis_server.port)


def test_a_change_of_the_code_restarts_the_worker_and_loses_no_run(tmp_path):
    with developing(tmp_path, f"redis://127.0.0.1:{free_port()}/0") as dev:
        dev.ready()
        sleeping = dev.send(name="cho", pause="3s")
        dev.says("pause  sleeping until")

        dev.write("good day ")
        dev.says("shop.py changed: the worker starts anew")
        dev.ready(2)
        assert output_of(dev, sleeping) == "good day cho"
        assert dev.log.count("say  done in ") == 1

        dev.write("good day ", "raise ValueError('a mistake')")
        dev.says("it starts anew when the code changes")
        dev.says("ValueError: a mistake")

        dev.write("good night ")
        dev.ready(3)
        assert output_of(dev, dev.send(name="dot")) == "good night dot"


def test_a_worker_that_is_killed_is_replaced(tmp_path):
    with developing(tmp_path, f"redis://127.0.0.1:{free_port()}/0", "--no-reload") as dev:
        dev.ready()

        os.kill(dev.worker_pid(), signal.SIGKILL)

        dev.says("the worker was killed (SIGKILL); it starts anew")
        dev.ready(2)
        assert output_of(dev, dev.send(name="eve")) == "hello eve"


def test_an_embedded_broker_beside_the_app_s_own_gets_what_other_processes_send_and_dies_with_the_session(
    tmp_path, broker_url
):
    with developing(tmp_path, broker_url, "--embedded", "--no-reload") as dev:
        dev.ready()
        assert "an embedded Redis: --embedded" in dev.log

        assert output_of(dev, dev.send(name="fay"), within=4) == "hello fay"

        dev.signal(signal.SIGKILL)
        dev.wait_end()
        assert eventually(lambda: not dev.left(), within=20)


def test_without_any_redis_the_broker_is_in_the_worker_and_others_send_through_the_store(tmp_path):
    with developing(tmp_path, None, "--no-reload", python=("-c", WITHOUT_REDIS)) as dev:
        dev.ready()
        assert "broker memory://, in the worker's own process: the app names no broker" in dev.log
        assert "worker threads" in dev.log

        assert output_of(dev, dev.send(name="gus")) == "hello gus"

        dev.signal(signal.SIGINT)
        assert dev.wait_end() == 0


def test_a_pool_of_processes_needs_a_broker_that_processes_share(tmp_path):
    with developing(tmp_path, None, "--pool", "prefork", python=("-c", WITHOUT_REDIS)) as dev:
        assert dev.wait_end() == 2
        assert "Error: --pool prefork needs a broker" in dev.log


def test_an_app_that_has_no_name_to_start_a_worker_by_is_wrong_usage(broker_url, sqlite_url):
    assert "by name" in Terminal(shop(broker_url, sqlite_url)).refused("dev", code=2)


def test_a_store_that_is_not_ready_is_told_before_any_process_starts(tmp_path, broker_url, postgres_url):
    with developing(tmp_path, broker_url, store=postgres_url) as dev:
        assert dev.wait_end() == 1
        assert dev.log.endswith("Run: celery -A <app> flows db upgrade\n")
        assert "worker" not in dev.log


def test_the_pages_are_there_show_what_happens_and_take_up_changed_code(tmp_path):
    port = free_port()
    with developing(tmp_path, f"redis://127.0.0.1:{free_port()}/0", "--port", str(port)) as dev:
        dev.ready()
        assert f"pages  http://127.0.0.1:{port}" in dev.log
        run = dev.send(name="dee")
        eventually(lambda: run in page(port, "/runs"), within=20.0)

        dev.write("hello ", more='\n\n@flows.flow(name="wave")\ndef wave(ctx):\n    return 1\n')
        eventually(lambda: "wave" in page(port, "/flows"), within=20.0)

        dev.signal(signal.SIGINT)
        assert dev.wait_end() == 0
        assert eventually(lambda: not dev.left())


def page(port: int, path: str) -> str:
    """What a browser gets, nothing while nobody listens."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
