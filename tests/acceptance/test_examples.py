"""Every example runs as it is written down: the demo to its end, the webhook with a real web server and worker."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers import LEASH, free_port
from tests.waiting import eventually
from tests.workers import running_worker

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_REDIS = (
    "import sys, runpy, celeryflows.cli.dev.brokers as brokers; brokers.redis_binary = lambda: None; "
    "runpy.run_module('examples.demo', run_name='__main__')"
)


def run_demo(tmp_path: Path, *python: str) -> subprocess.CompletedProcess[str]:
    """The demo without a terminal, in an empty home."""
    folders = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    for folder in folders.values():
        Path(folder).mkdir()
    env = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "CELERY_"))}
    command = [sys.executable, *python]
    return subprocess.run(command, cwd=ROOT, env={**env, **folders}, capture_output=True, text=True, timeout=100)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("demo")
    return run_demo(folder, "-m", "examples.demo"), folder


def test_the_demo_ends_by_itself_with_status_0(demo):
    done, _ = demo

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "done in " in done.stdout


def test_the_demo_shows_that_a_killed_worker_costs_no_run_and_no_step_a_second_time(demo):
    lines = demo[0].stdout.splitlines()

    killed = next(i for i, line in enumerate(lines) if line.startswith("-> kill -9 "))
    assert sum("welcome  done in " in line for line in lines[:killed]) == 3
    assert not any("welcome  done in " in line for line in lines[killed:])
    assert sum("  completed in " in line and "run    onboarding" in line for line in lines[killed:]) == 3
    assert [line.strip() for line in lines if re.match(r" +\d+ x ", line)] == [
        "1 x mail to ann@example.com: welcome",
        "1 x mail to bob@example.com: nudge",
        "1 x mail to bob@example.com: welcome",
        "1 x mail to cho@example.com: nudge",
        "1 x mail to cho@example.com: welcome",
    ]


def test_the_demo_leaves_no_file_and_no_process(demo):
    _, folder = demo

    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert list((folder / "tmp").iterdir()) == []
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(folder) not in left


def test_the_demo_claims_no_dashboard_and_names_commands_that_are_there(demo):
    printed = demo[0].stdout

    assert "http://127.0.0.1:8288" in printed
    commands = re.findall(r"celery -A examples\.quickstart flows (\w+)", printed)
    assert set(commands) == {"dev", "send", "runs"}


def test_the_demo_needs_no_redis(tmp_path):
    done = run_demo(tmp_path, "-c", WITHOUT_REDIS)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("broker memory://")


def test_the_quickstart_is_the_example_of_the_readme():
    example = (ROOT / "examples" / "quickstart.py").read_text()
    core = example[example.index("from celery import Celery") : example.index('\n\nif __name__ == "__main__"')].strip()
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)

    assert core in [block.strip() for block in blocks]


# -- the webhook


class Answer:
    """What the web server said."""

    def __init__(self, status: int, body: str) -> None:
        self.status = status
        self.body = json.loads(body)


def post(url: str, body: str) -> Answer:
    """POST as a payment provider does: with curl, or without it where there is none."""
    if shutil.which("curl") is None:
        return _post_by_urllib(url, body)
    command = ["curl", "-sS", "-X", "POST", "-H", "Content-Type: application/json", "-d", body]
    done = subprocess.run(
        [*command, "-w", "\n%{http_code}", url], capture_output=True, text=True, timeout=30, check=True
    )
    text, _, status = done.stdout.rpartition("\n")
    return Answer(int(status), text)


def _post_by_urllib(url: str, body: str) -> Answer:
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return Answer(response.status, response.read().decode())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode())


@contextmanager
def web_server(port: int, env: dict[str, str], log: Path) -> Iterator[None]:
    """`flask --app examples.webhook:web run` on the port, for a block."""
    leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), "", "9"]
    flask = [sys.executable, "-m", "flask", "--app", "examples.webhook:web", "run", "--port", str(port)]
    with log.open("wb") as output:
        server = subprocess.Popen([*leash, *flask], cwd=ROOT, env={**os.environ, **env}, stdout=output, stderr=output)
    try:
        eventually(lambda: "Running on" in log.read_text(), within=30)
        yield
    finally:
        server.kill()
        server.wait(10)


@pytest.fixture(scope="module")
def shop(redis_server: Any, broker_databases: Iterator[int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The webhook's URL, its worker at work; both find broker and store by the same environment."""
    folder = tmp_path_factory.mktemp("webhook")
    database = next(broker_databases)
    redis_server.flush(database)
    env = {"CELERY_BROKER_URL": redis_server.url(database), "XDG_STATE_HOME": str(folder)}
    os.environ.update(env)
    port = free_port()
    try:
        with running_worker("examples.webhook", "-c", "1", env=env), web_server(port, env, folder / "web.log"):
            yield f"http://127.0.0.1:{port}/webhooks/payments"
    finally:
        for name in env:
            del os.environ[name]


def runs() -> list[dict[str, Any]]:
    """What the operator's command lists, the newest first."""
    command = [sys.executable, "-m", "celery", "-A", "examples.webhook", "flows", "runs", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    listed: list[dict[str, Any]] = json.loads(done.stdout)["runs"]
    return listed


def test_a_payment_that_is_posted_becomes_an_event_and_its_run_completes(shop):
    answer = post(shop, '{"id": "pay_1", "amount": 1250}')

    assert answer.status == 202
    assert len(answer.body["events"]) == 1
    run = eventually(lambda: next((run for run in runs() if run["status"] == "completed"), None), within=30)
    assert (run["flow"], run["output"]) == ("receipt", "receipt for pay_1: 12.50")


def test_a_payment_that_the_provider_repeats_is_accepted_and_started_once(shop):
    for _ in range(3):
        assert post(shop, '{"id": "pay_2", "amount": 100}').status == 202

    found = eventually(lambda: _settled([run for run in runs() if run["event_id"] and _is_of(run, "pay_2")]), within=30)

    assert sorted(run["status"] for run in found) == ["completed", "skipped", "skipped"]


def _is_of(run: dict[str, Any], payment: str) -> bool:
    return payment in json.dumps([run["output"], run["reason"]])


def _settled(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return found if len(found) == 3 else []


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"id": 7}', '{"id": ""}', '{"id": "x", "a": NaN}'])
def test_what_is_no_payment_is_refused_with_the_reason(shop, body):
    answer = post(shop, body)

    assert answer.status == 400
    assert answer.body["error"]
