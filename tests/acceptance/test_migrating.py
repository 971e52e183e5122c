"""docs/migrating.md: of each idiom the block before and the block after both run, and come to the same."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, _state

from celeryflows import Flows
from celeryflows.testing import FlowsTester

PAGE = Path(__file__).resolve().parents[2] / "docs" / "migrating.md"
Names = dict[str, Any]


def pairs() -> dict[str, tuple[str, str]]:
    """Each section's two blocks of code."""
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        title, _, text = section.partition("\n")
        blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
        if blocks:
            before, after = blocks
            found[title] = (before, after)
    return found


PAIRS = pairs()


class Both:
    """The names that both blocks made, and the world in which the second one ran."""

    def __init__(self, before: Names, after: Names, tester: FlowsTester) -> None:
        self.before = before
        self.after = after
        self.tester = tester

    def outputs(self, flow: str) -> list[Any]:
        """What the runs of a flow came to, in their order."""
        self.tester.advance("0s")
        return [run.output for run in self.tester.runs(flow)]


def run(code: str, app: Celery, **names: Any) -> Names:
    """Run a block as the module `shop`, whose tasks are this app's alone."""
    module = {"__name__": "shop", "app": app, **names}
    before = set(_state._on_app_finalizers)
    exec(compile(code, "shop.py", "exec"), module)
    _state._on_app_finalizers.intersection_update(before)
    return module


@pytest.fixture
def both(redis_url: str) -> Iterator[Callable[[str], Both]]:
    """Run a section: plain Celery first, in place; then ours on the test kit."""
    apps = [Celery("shop", broker=redis_url, backend="cache+memory://", set_as_current=False) for _ in range(2)]
    eager, ours = apps
    eager.conf.update(task_always_eager=True, task_store_eager_result=True, singleton_backend_url=redis_url)
    testers = []

    def play(title: str) -> Both:
        before, after = PAIRS[title]
        eager_names = run(before, eager)
        flows = Flows(ours)
        tester = FlowsTester(flows).__enter__()
        testers.append(tester)
        return Both(eager_names, run(after, ours, flows=flows), tester)

    yield play
    for tester in testers:
        tester.__exit__(None, None, None)
    for app in apps:
        app.close()


def delay(both: Both) -> None:
    assert both.outputs("shop.send_email") == [both.before["send_email"]("ann@example.com")]


def countdown(both: Both) -> None:
    assert both.outputs("shop.remind") == [None]
    both.tester.advance("3 days")
    assert both.outputs("shop.remind") == [both.before["remind"]("o1")]


def retry(both: Both) -> None:
    both.outputs("shop.charge")
    both.tester.advance("1h")
    assert both.outputs("shop.charge") == ["paid"]
    assert both.before["calls"] == ["reserve", "pay", "reserve", "pay"]
    assert both.after["calls"] == ["reserve", "pay", "pay"]


def autoretry(both: Both) -> None:
    both.outputs("fetch")
    both.tester.advance("1m")
    assert both.outputs("fetch") == ["page"]
    assert len(both.before["tries"]) == len(both.after["tries"]) == 3


def chained(both: Both) -> None:
    assert both.outputs("photos") == [both.before["result"].get()] == ["published small cat.jpg"]


def chord(both: Both) -> None:
    assert both.outputs("count_all") == [both.before["result"].get()] == [8]


def beat(both: Both) -> None:
    [entry] = both.before["app"].conf.beat_schedule.values()
    task = both.before["app"].tasks[entry["task"]]
    both.tester.advance("7 days")
    # Five working days in any week.
    assert both.outputs("shop.report") == [task(*entry["args"])] * 5


def rate_limit(both: Both) -> None:
    assert both.before["translate"].rate_limit == "10/m"
    assert both.outputs("shop.translate") == ["ONE", None, None]
    both.tester.advance("12s")
    assert both.outputs("shop.translate") == ["ONE", "TWO", "THREE"]


def annotations(both: Both) -> None:
    app = both.before["app"]
    assert app.conf.task_annotations["shop.geocode"] == {"rate_limit": "100/h"}
    assert both.outputs("shop.geocode") == [both.before["geocode"]("main street")]


def singleton(both: Both) -> None:
    assert both.outputs("shop.sync") == ["a1", None]
    assert [str(run.status) for run in both.tester.runs("shop.sync")] == ["completed", "skipped"]


def locks(both: Both) -> None:
    assert both.outputs("shop.rebuild") == ["books"]


def results(both: Both) -> None:
    before, after = both.before, both.after
    assert after["status"](after["asked"]) == {"state": "queued", "file": None}
    both.tester.advance("0s")
    assert before["status"](before["asked"]) == {"state": "SUCCESS", "file": "2026-10.csv"}
    assert after["status"](after["asked"]) == {"state": "completed", "file": "2026-10.csv"}


def revoke(both: Both) -> None:
    assert both.before["reminder"].state == "REVOKED"
    both.tester.advance("2 days")
    assert [str(run.status) for run in both.tester.runs("shop.remind")] == ["cancelled"]


CHECKS: dict[str, Callable[[Both], None]] = {
    "delay": delay,
    "countdown and eta": countdown,
    "retry": retry,
    "autoretry_for": autoretry,
    "chain": chained,
    "group and chord": chord,
    "beat": beat,
    "rate_limit": rate_limit,
    "task_annotations": annotations,
    "Singleton packages": singleton,
    "Locks": locks,
    "Asking for results": results,
    "revoke": revoke,
}


@pytest.mark.parametrize("title", PAIRS)
def test_both_sides_of_an_idiom_run_and_come_to_the_same(title: str, both: Callable[[str], Both]) -> None:
    CHECKS[title](both(title))


def test_every_idiom_of_the_page_is_checked() -> None:
    assert set(CHECKS) == set(PAIRS)
