"""`flows adopt` over a shop on plain Celery: each place is found, and what it proposes is code that runs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SHOP = Path(__file__).parent / "old_shop"
# File, kind, and what stands so many lines below the place.
PLACES = {
    ("app.py", "beat", "crontab(minute=30, hour=2)", 0),
    ("app.py", "beat", '"args": ("team@example.com",)', 0),
    ("app.py", "beat", '"schedule": 77.0', 0),
    ("app.py", "beat", "add_periodic_task", 0),
    ("tasks.py", "retry", "max_retries=5", 0),
    ("tasks.py", "retry", "autoretry_for", 1),
    ("tasks.py", "rate_limit", 'rate_limit="10/m"', 0),
    ("tasks.py", "rate_limit", "def geocode", 1),
    ("tasks.py", "lock", "base=OneAtATime", 0),
    ("tasks.py", "lock", "base=QueueOnce", 0),
    ("tasks.py", "lock", "def import_file", 2),
    ("tasks.py", "lock", "def rebuild", 1),
    ("tasks.py", "rate_limit", "def run", 0),
    ("tasks.py", "retry", "def run", 0),
    ("views.py", "eta", "countdown=86400", 0),
    ("views.py", "eta", "eta=datetime(2027", 0),
    ("views.py", "canvas", "chain(charge", 0),
    ("views.py", "canvas", "chord(", 0),
    ("views.py", "canvas", "group(", 0),
    ("views.py", "canvas", "{country}", 0),
    ("views.py", "canvas", "chain(first", 0),
    ("views.py", "canvas", "geocode.s(address) |", 0),
}
# How the canvases and tasks of the shop end once they are runs.
PLAY = """
import json
from old_shop import app, views
from celeryflows.testing import FlowsTester

with FlowsTester(app.flows) as tester:
    order = {"id": "o1", "email": "ann@example.com", "items": ["tea", "cups"]}
    views.checkout(order)
    packed = tester.start("pack_order_flow", order_items=order["items"]).output
    located = tester.start("locate_flow", address="here").output
    before = [run.status for run in tester.runs("old_shop.tasks.send_mail")]
    tester.advance("1 day")
    after = [run.status for run in tester.runs("old_shop.tasks.send_mail")]
    print(json.dumps([packed, located, before[0], after[0]]))
"""


def celery(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`celery -A old_shop.app flows ...` in the folder."""
    command = [sys.executable, "-m", "celery", "-A", "old_shop.app", "flows", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def gains(folder: Path) -> list[dict[str, Any]]:
    done = celery(folder, "adopt", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["gains"]
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shop; the folder that it is in."""
    folder = tmp_path_factory.mktemp("old")
    shutil.copytree(SHOP, folder / "old_shop", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def found(shop: Path) -> list[dict[str, Any]]:
    return gains(shop)


@pytest.fixture(scope="module")
def told(shop: Path) -> str:
    done = celery(shop, "adopt")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_place_is_found_and_nothing_else(shop: Path, found: list[dict[str, Any]]) -> None:
    left = set(PLACES)
    for gain in found:
        lines = (shop / gain["file"]).read_text().splitlines()[gain["line"] - 1 :]
        [place] = [
            (file, kind, text, below)
            for file, kind, text, below in left
            if gain["file"].endswith(file) and kind == gain["kind"] and text in lines[below]
        ]
        left.remove(place)

    assert left == set()


def test_what_it_tells_a_person_is_the_same(told: str, found: list[dict[str, Any]]) -> None:
    assert f"{len(found)} places would gain: 4 beat, 6 canvas, 2 eta, 4 lock, 3 rate_limit, 3 retry" in told
    assert "from celeryflows import Concurrency, Flows, OnCron, Singleton, Throttle\n" in told
    for gain in found:
        assert f"{gain['file']}:{gain['line']} {gain['kind']}" in told
        for line in (gain["change"] or {"after": ""})["after"].splitlines():
            assert f"  + {line}" in told


def test_the_page_shows_what_it_prints(told: str) -> None:
    page = (SHOP.parents[2] / "docs" / "migrating.md").read_text()
    shown = page.partition("$ celery -A old_shop.app flows adopt\n...\n")[2].partition("...\n```")[0]

    assert len(shown.splitlines()) == 5
    assert shown in told


def test_the_lines_that_it_proposes_run(tmp_path: Path, shop: Path, found: list[dict[str, Any]]) -> None:
    shutil.copytree(shop, tmp_path, dirs_exist_ok=True)
    for gain in sorted(found, key=lambda gain: -(gain["change"] or gain)["line"]):
        change = gain["change"]
        if change is not None and gain["kind"] in ("beat", "canvas"):
            add(tmp_path / gain["file"], change)
        elif change is not None:
            take(tmp_path / change["file"], change)
    names = "Concurrency, Flows, OnCron, Singleton, Throttle"
    edit(tmp_path, "app.py", "from celery import Celery\n", f"$from celeryflows import {names}\n")
    settings = f'flows = Flows(app)\napp.conf.flows_store_url = "sqlite:///{tmp_path}/store"\n$'
    edit(tmp_path, "app.py", "app.conf.timezone", settings)
    edit(tmp_path, "tasks.py", "\nfrom old_shop.app import app", f"\nfrom celeryflows import {names}\n$")
    edit(tmp_path, "tasks.py", '@no_overlap("import-{file}")\n', "")
    edit(tmp_path, "views.py", "\nfrom old_shop.tasks", "\nfrom old_shop.app import flows\n$")

    # Their entries and calls still stand; whoever moves them takes them out.
    left = {(gain["kind"], gain["change"] is not None) for gain in gains(tmp_path)}
    assert left == {
        ("beat", True),
        ("beat", False),
        ("canvas", True),
        ("canvas", False),
        ("rate_limit", False),
        ("retry", False),
    }
    played = subprocess.run(
        [sys.executable, "-c", PLAY], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert played.returncode == 0, played.stderr
    assert json.loads(played.stdout) == [7, "HERE", "scheduled", "completed"]
    listed = json.loads(celery(tmp_path, "list", "--json").stdout)["flows"]
    crons = {cron["cron"] for flow in listed for cron in flow["crons"]}
    assert crons == {"30 2 * * *", "*/5 * * * *", "0 9 * * mon-fri"}


def edit(folder: Path, name: str, old: str, new: str) -> None:
    """Replace a text that is there; $ in the new one is the old one."""
    path = folder / "old_shop" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new.replace("$", old), 1))


def take(path: Path, change: dict[str, Any]) -> None:
    """Put the lines in the place of those that are there; several places may ask for the same change."""
    lines, before, at = path.read_text().splitlines(), change["before"].splitlines(), change["line"] - 1
    if lines[at : at + len(before)] == before:
        path.write_text("\n".join([*lines[:at], change["after"], *lines[at + len(before) :], ""]))


def add(path: Path, change: dict[str, Any]) -> None:
    """What goes beside the Flows: at the end of the file."""
    path.write_text(path.read_text() + "\n" + change["after"].splitlines()[0] + "\n")


def test_a_named_file_is_read_too_and_one_that_cannot_be_is_told(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "views.py").write_text("from old_shop.tasks import pack\n\npack.apply_async(([1],), countdown=5)\n")
    (tmp_path / "old.py").write_text('print "two"\n')
    done = json.loads(celery(shop, "adopt", "--json", str(tmp_path)).stdout)

    [gain] = [gain for gain in done["gains"] if gain["file"].startswith(str(tmp_path))]
    assert (gain["kind"], gain["task"], gain["line"]) == ("eta", "old_shop.tasks.pack", 3)
    assert gain["change"]["file"] == "old_shop/tasks.py"
    assert [told.partition(": ")[0] for told in done["unread"]] == [str(tmp_path / "old.py")]


def test_an_app_is_wanted_and_a_path_that_is_there(shop: Path) -> None:
    command = [sys.executable, "-m", "celery", "flows", "adopt"]
    nameless = subprocess.run(command, cwd=shop, capture_output=True, text=True, timeout=60)

    assert (nameless.returncode, "celery -A <module>" in nameless.stderr) == (2, True)
    assert celery(shop, "adopt", "nowhere.py").returncode == 2
