"""What the page about the dashboard tells is so: its code runs, and it names every page."""

from pathlib import Path

from celeryflows import Flows
from flask_dashboard.presenters.navigation import PLACES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dashboard.md"


def test_the_code_of_the_page_serves_the_pages_as_an_app_and_in_another():
    code = PAGE.read_text().partition("```python\n")[2].partition("```")[0]
    names: dict[str, object] = {}
    exec(compile(code, "shop.py", "exec"), names)
    flows = names["flows"]
    assert isinstance(flows, Flows)
    assert names["app"].test_client().get("/runs").status_code == 200
    assert names["site"].test_client().get("/flows/runs").status_code == 200
    flows.runtime.store.dispose()


def test_the_page_tells_of_every_page():
    text = PAGE.read_text()
    assert [place[0] for place in PLACES if place is not None and f"| {place[0]} |" not in text] == []
