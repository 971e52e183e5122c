"""Pictures of every page in both themes, from a shop in which much has happened: `python -m tests.dashboard.pictures`.

Needs Chromium and Pillow; each picture has few colours and stays below 80 KB."""

import io
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from celeryflows import Event
from celeryflows.console import audit
from celeryflows.durations import HOUR, MINUTE
from celeryflows.engine.limits_in_use import DeclaredLimit, declared_limits
from celeryflows.store.figure_tables import CLASSES
from celeryflows.store.figures import ALL, Backlog
from celeryflows.store.limit_uses import LimitUse
from tests.celery.apps.store_front import SHEET
from tests.dashboard.browsing import Reader, running_browser, served
from tests.inbox import Inbox, running_inbox
from tests.servers import running_postgres, running_redis
from tests.waiting import eventually
from tests.worlds import BRISK, World, made_world

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "pictures"
# Where this checkout stands is nothing for a picture.
WITHOUT_ROOT = """root => document.querySelectorAll("pre.stack").forEach(
  stack => { stack.textContent = stack.textContent.replaceAll(root, "") })"""
NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eva", "Finn")
SHOWN = {"flows_record_inputs": True, **BRISK}
COLOURS, MOST_BYTES = 256, 80_000
SIZE, PHONE = {"width": 1280, "height": 760}, {"width": 390, "height": 844}
PHONES = os.environ.get("FLOWS_PICTURES", "")
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


def past_limits(world: World, flows: Any) -> None:
    """The same for the limits: full at noon."""
    dice = random.Random(5)
    with world.store.connection() as connection:
        catalog = flows.runtime.catalog.read(connection)
        limits = [limit for its in declared_limits(catalog).values() for limit in its]
        now = connection.now()
        for ago in range(2, 288):
            at = now - now % (5 * MINUTE) - ago * 5 * MINUTE
            level = 0.15 + 0.85 * max(0.0, 1 - abs(at // HOUR % 24 - 13) / 7)
            uses = [_use(dice, limit, level) for limit in limits]
            connection.limit_uses.put(at, uses, catalog.gates.numbers)


def _use(dice: random.Random, limit: DeclaredLimit, level: float) -> LimitUse:
    most = limit.capacity or 0
    fullest = min(most, round(level * dice.uniform(0.7, 1.3) * most))
    waiting = round(max(0.0, level - 0.6) * dice.uniform(0, 25)) if fullest == most else 0
    keys = round(1 + 20 * level) if limit.key else 1
    return LimitUse(limit.id, fullest * keys // (2 if limit.key else 1) or fullest, waiting, keys, fullest)


ACTS = (
    ("ann", "page", "rerun_run", "/runs/{run}/rerun from_step=ship", "done"),
    ("ann", "page", "pause_flow", "/flow-acts/pause/shop.refund flow=shop.refund", "done"),
    ("key grafana", "rest", "cancel_runs", "/v1/cancellations function_id=shop.export", "refused: 403"),
    ("deploy@web-1", "terminal", "prune", "all flows older_than=30d", "done"),
    ("ben", "page", "log in, refused", "192.0.2.7", "done"),
    ("ben", "page", "log in", "192.0.2.7", "done"),
    ("ben", "page", "resume_flow", "/flow-acts/resume/shop.refund flow=shop.refund", "done"),
    ("deploy@web-1", "terminal", "create key", "web shop", "done"),
    ("ann", "page", "cancel_run", "/runs/{run}/cancel because=sent twice", "refused: 409"),
    ("ann", "page", "replay_filtered", "/runs-filtered/replay flow=shop.refund status=failed pace=10", "done"),
)


def acts(flows: Any, run: str) -> None:
    """What people did, as the doors write it down."""
    for who, via, action, subject, outcome in ACTS:
        entry = audit.begin(flows.runtime, who=who, via=via, action=action, subject=subject.format(run=run))
        audit.end(flows.runtime, entry, outcome)


def rules(inbox: Inbox) -> dict[str, Any]:
    """Alerts as a shop would have them."""
    return {
        "refunds fail": {"when": "failed", "flow": "shop.refund", "to": inbox.address},
        "bad hour": {"when": "failure rate", "above": 0.05, "to": [inbox.address, "mailto://ops:pw@shop.example"]},
        "queue too long": {"when": "backlog", "above": 500, "to": inbox.address},
        "slow start": {"when": "oldest waiting", "longer": "2 minutes", "to": "slack://a/b/c"},
        "worker gone": {"when": "worker silent", "to": inbox.address, "every": "5 minutes"},
        "nightly report": {"when": "cron missed", "by": "10 minutes", "to": inbox.address},
    }


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
        "alerts": "/alerts",
        "audit": "/audit",
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


def draw(browser: Any, address: str, theme: str, chosen: dict[str, str]) -> None:
    """The chosen pages in one theme; with FLOWS_PICTURES=<folder> also on a phone, there."""
    for folder, size in ((FOLDER, SIZE), *([(Path(PHONES), PHONE)] if PHONES else [])):
        reader = Reader(browser, address, theme=theme, width=size["width"])
        reader.page.set_viewport_size(size)  # type: ignore[arg-type]
        for name, path in chosen.items():
            reader.open(path).wait_for_timeout(400)
            reader.page.evaluate(WITHOUT_ROOT, f"{ROOT}/")
            save(reader.page.screenshot(full_page=folder is not FOLDER), folder / f"{name}-{theme}.png")
        print(f"{theme}, {size['width']} wide: {reader.complaints or 'no complaint'}")
        reader.close()


def _wanted(name: str, names: list[str]) -> bool:
    return not names or name in names


def main(names: list[str]) -> int:
    """Write the pictures, or those that are named."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        running_inbox() as inbox,
        running_redis() as redis,
        running_postgres() as postgres,
        tempfile.TemporaryDirectory() as folder,
        made_world(redis, 1, postgres, Path(folder), **SHOWN, flows_alerts=rules(inbox)) as world,
        world.worker("tests.celery.apps.store_front", "-c", "4", "-P", "threads"),
        running_browser() as browser,
    ):
        flows = world.app(SHEET).flows
        chosen = traffic(world, flows)
        flows.replay("shop.refund", pace=1)
        for n in range(8):
            flows.send(Event("export/asked", {"user_id": NAMES[n % 3].lower(), "seconds": 20}))
        past(world)
        past_limits(world, flows)
        acts(flows, chosen["run"])
        eventually(lambda: inbox.messages, within=40.0)
        with served(flows) as address:
            for theme in ("light", "dark"):
                draw(
                    browser,
                    address,
                    theme,
                    {name: path for name, path in paths(chosen).items() if _wanted(name, names)},
                )
    print(f"{len(list(FOLDER.glob('*.png')))} pictures in {FOLDER}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
