"""Pictures of every page in both themes, from a shop in which much has happened: `python -m tests.dashboard.pictures`.

Needs Chromium and Pillow; each picture has few colours and stays below 80 KB."""

import io
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from celeryflows import Event
from celeryflows.durations import HOUR, MINUTE
from celeryflows.store.figure_tables import CLASSES
from celeryflows.store.figures import ALL, Backlog
from tests.celery.apps.store_front import SHEET
from tests.dashboard.browsing import Reader, running_browser, served
from tests.servers import running_postgres, running_redis
from tests.waiting import eventually
from tests.worlds import BRISK, World, made_world

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "pictures"
# Where this checkout stands is nothing for a picture.
WITHOUT_ROOT = """root => document.querySelectorAll("pre.stack").forEach(
  stack => { stack.textContent = stack.textContent.replaceAll(root, "") })"""
NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eva", "Finn")
COLOURS, MOST_BYTES = 256, 80_000
SIZE = {"width": 1280, "height": 760}
# What the figures of the last day look like: a shop that sleeps at night, and a bank that fails for an hour.
DAILY = {"shop.fulfil": (30, 0.02), "shop.onboarding": (55, 0.0), "shop.ship": (30, 0.0), "shop.refund": (6, 0.3)}


def traffic(world: World, flows: Any) -> dict[str, str]:
    """Runs of every kind; the ids of those that have pictures of their own."""
    dice = random.Random(7)
    for n in range(36):
        name = dice.choice(NAMES)
        user = {
            "user_id": f"u{n}",
            "name": name,
            "email": f"{name.lower()}@example.com",
            "plan": dice.choice(("free", "pro")),
        }
        flows.send(Event("user/signed.up", {**user, "settle": "600ms" if n % 3 else "5 minutes"}, id=f"signup-{n}"))
        lines = [{"sku": "mug-7", "pieces": 2}, {"sku": "tee-m", "pieces": 1}, {"sku": "cap", "pieces": 3}][: 1 + n % 3]
        flows.send(Event("order/paid", {"id": str(1000 + n), "user_id": f"u{n}", "cents": 4900, "lines": lines}))
        if n % 4 == 0:
            flows.send(Event("refund/asked", {"order": str(1000 + n), "cents": 4900}))
        if n % 6 == 0:
            flows.send(Event("review/asked", {"user_id": f"u{n}"}))
        time.sleep(0.05)
    lines = [{"sku": "mug-7", "pieces": 2}, {"sku": "tee-m", "pieces": 1}, {"sku": "cap", "pieces": 3}]
    order = {"id": "2001", "user_id": "u77", "cents": 12900, "declined_until": 2, "lines": lines}
    chosen = {"run": _run(world, flows, Event("order/paid", order))}
    settled = {"user_id": "u78", "name": "Gil", "email": "gil@example.com", "settle": "3s", "patience": "4s"}
    chosen["waits"] = _run(world, flows, Event("user/signed.up", settled))
    chosen["failed"] = _run(world, flows, Event("refund/asked", {"order": "2002", "cents": 900}))
    for run_id, status in ((chosen["run"], "completed"), (chosen["waits"], "completed"), (chosen["failed"], "failed")):
        world.ends(run_id, status)
    (row,) = world.rows("SELECT event_id FROM flows_runs WHERE id = :id", id=chosen["run"])
    chosen["event"] = row[0]
    eventually(lambda: world.rows("SELECT 1 FROM flows_figures WHERE flow = 'shop.refund'"), within=30.0)
    return chosen


def _run(world: World, flows: Any, event: Event) -> str:
    (event_id,) = flows.send(event)
    (row,) = world.rows("SELECT id FROM flows_runs WHERE event_id = :id", id=event_id)
    return str(row[0])


def past(world: World) -> None:
    """A day of figures, as the leader would have counted them."""
    dice = random.Random(3)
    with world.store.connection() as connection:
        now = connection.now()
        for ago in range(2, 288):
            at = now - now % (5 * MINUTE) - ago * 5 * MINUTE
            hour = at // HOUR % 24
            level = 0.25 + 0.75 * max(0.0, 1 - abs(hour - 14) / 9)
            by_flow = {flow: _bucket(dice, level * runs, bad, hour) for flow, (runs, bad) in DAILY.items()}
            total = {name: sum(one.get(name, 0) for one in by_flow.values()) for name in by_flow["shop.fulfil"]}
            connection.figures.put(at, {**by_flow, ALL: total}, None)
            waiting = round(level * dice.uniform(0, 9))
            connection.figures.put_backlog(
                at,
                [
                    Backlog(ALL, waiting, round(level * 8), waiting * 90_000),
                    Backlog("shop.fulfil", waiting, 4, waiting * 90_000),
                ],
            )


def _bucket(dice: random.Random, runs: float, bad: float, hour: int) -> dict[str, int]:
    made = max(0, round(dice.gauss(runs, runs / 6)))
    failed = sum(dice.random() < (bad * 8 if hour == 9 else bad) for _ in range(made))
    found = dict.fromkeys(CLASSES, 0)
    for _ in range(made):
        found[f"d{min(12, max(3, round(dice.gauss(7, 1.1))))}"] += 1
    return {
        "made": made,
        "started": made,
        "completed": made - failed,
        "failed": failed,
        "waited": made * 24_000,
        **found,
    }


def paths(chosen: dict[str, str]) -> dict[str, str]:
    """Each picture's page."""
    return {
        "runs": "/runs",
        "run": f"/runs/{chosen['run']}?step=charge+card",
        "run-waits": f"/runs/{chosen['waits']}?step=first+order",
        "run-failed": f"/runs/{chosen['failed']}?step=refund+card",
        "run-as-test": f"/runs/{chosen['run']}/test",
        "filtered": "/runs-filtered?flow=shop.refund",
        "events": "/events",
        "event": f"/events/{chosen['event']}",
        "send": "/send",
        "flows": "/flows",
        "flow": "/flows/shop.fulfil",
        "failures": "/failures",
        "metrics": "/figures",
        "limits": "/limits",
        "workers": "/workers",
        "replays": "/replays",
    }


def save(raw: bytes, path: Path) -> None:
    """Write a picture with few colours."""
    for colours in (COLOURS, 128, 64, 32):
        picture = Image.open(io.BytesIO(raw)).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        out = io.BytesIO()
        picture.save(out, "PNG", optimize=True)
        if out.tell() < MOST_BYTES:
            break
    path.write_bytes(out.getvalue())


def main(names: list[str]) -> int:
    """Write the pictures, or those that are named."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        running_redis() as redis,
        running_postgres() as postgres,
        tempfile.TemporaryDirectory() as folder,
        made_world(redis, 1, postgres, Path(folder), **BRISK) as world,
        world.worker("tests.celery.apps.store_front", "-c", "4", "-P", "threads"),
        running_browser() as browser,
    ):
        flows = world.app(SHEET).flows
        chosen = traffic(world, flows)
        flows.replay("shop.refund", pace=1)
        for n in range(8):
            flows.send(Event("export/asked", {"user_id": NAMES[n % 3].lower(), "seconds": 20}))
        past(world)
        with served(flows) as address:
            for theme in ("light", "dark"):
                reader = Reader(browser, address, theme=theme, width=SIZE["width"])
                reader.page.set_viewport_size(SIZE)  # type: ignore[arg-type]
                for name, path in paths(chosen).items():
                    if not names or name in names:
                        reader.open(path).wait_for_timeout(400)
                        reader.page.evaluate(WITHOUT_ROOT, f"{ROOT}/")
                        save(reader.page.screenshot(), FOLDER / f"{name}-{theme}.png")
                reader.close()
    print(f"{len(list(FOLDER.glob('*.png')))} pictures in {FOLDER}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
