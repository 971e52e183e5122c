"""The pages tell the truth: links lead to files, settings have these defaults, commands and names are there."""

import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import click
import pytest

import celeryflows
from celeryflows.cli import flows as group
from celeryflows.durations import parse_duration
from celeryflows.engine.settings import Settings
from celeryflows.testing import FlowsTester

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
GUARANTEES, BEHAVIOURS = ROOT / "docs" / "guarantees.md", ROOT / "docs" / "behaviours.md"
# What a row may say in place of a test.
OPENLY = {"nothing to hold", "not tested yet"}
UNITS = {"KiB": 1024, "MiB": 1024 * 1024}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language; those of commands and pictures have none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text())

    assert [link for link in links if "://" not in link and not (page.parent / link.partition("#")[0]).exists()] == []


def test_every_promise_of_the_readme_names_the_tests_that_keep_it():
    promises = README.read_text().partition("## What is promised")[2].partition("\n## ")[0]
    items = promises.split("\n- ")[1:]

    assert len(items) > 10
    assert [item for item in items if "](tests/" not in item] == []


def test_every_fault_has_its_row_and_the_tests_that_hold_it_are_there():
    rows = re.findall(r"^\| (\d+) \| .* \| (.+) \|$", GUARANTEES.read_text(), re.MULTILINE)

    assert [int(number) for number, _ in rows] == list(range(1, 59))
    assert [number for number, held in rows if "](" not in held and held not in OPENLY] == []
    assert _missing_tests(GUARANTEES) == []


def test_every_behaviour_names_tests_that_exist():
    rows = re.findall(r"^\| (?!promise|---)(.+) \| (.+) \|$", BEHAVIOURS.read_text(), re.MULTILINE)

    assert len(rows) > 70
    assert [promise for promise, held in rows if "](../tests/" not in held] == []
    assert _missing_tests(BEHAVIOURS) == []


def _missing_tests(page: Path) -> list[str]:
    """What a page links as a test of a file and is not in it."""
    found = re.findall(r"\[([^]]+)\]\((\.\./tests/[^)]+)\)", page.read_text())
    source = {path: (page.parent / path).read_text() for _, path in found}
    return [name for name, path in found if f"def test_{name.replace(' ', '_')}(" not in source[path]]


def test_a_test_that_is_not_there_would_be_missed(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_it_holds(): ...")
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "page.md"
    page.write_text("[it holds](../tests/test_a.py), [it breaks](../tests/test_a.py)")

    assert _missing_tests(page) == ["it breaks"]


def test_the_readme_asks_for_two_commands_and_no_more():
    commands, picture = blocks(README, "")

    assert commands.splitlines() == ["./dev demo", "./dev test"]
    assert "[run id]" in picture


def test_the_settings_have_the_defaults_that_the_page_tells():
    rows = re.findall(r"^\| `flows_(\w+)` \| ([^|]+) \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    told = {name: default.strip() for name, default in rows}
    settings = Settings()

    assert told.pop("store_url") == "an SQLite file"
    assert told.pop("encryption_keys") == "none"
    assert (told.pop("retention"), settings.retention) == ("keep", 0)
    assert {name: _number(text) for name, text in told.items()} == {
        field.name: getattr(settings, field.name) for field in fields(Settings) if field.name != "retention"
    }


def _number(text: str) -> int:
    if text == "off":
        return False
    if re.fullmatch(r"[\d,]+", text):
        return int(text.replace(",", ""))
    number, unit = text.split()
    return int(number) * UNITS[unit] if unit in UNITS else parse_duration(text)


def loaded(of: click.Group) -> dict[str, click.Command]:
    context = click.Context(of)
    return {name: of.get_command(context, name) for name in of.list_commands(context)}


def commands(of: click.Group, prefix: str = "") -> Iterator[str]:
    for name, command in loaded(of).items():
        yield from commands(command, f"{name} ") if isinstance(command, click.Group) else [prefix + name]


def test_the_reference_tells_every_command_with_its_options():
    page = (ROOT / "docs" / "reference.md").read_text().partition("## Commands")[2].partition("\n## ")[0]
    told = set(re.findall(r"`((?:(?:db|keys) )?[a-z-]+)(?: [^`]*)?`", page))
    options = {
        option.split("/")[0]
        for command in loaded(group).values()
        for parameter in command.params
        for option in parameter.opts + parameter.secondary_opts
        if option.startswith("--")
    } - {"--help"}

    assert set(commands(group)) <= told
    assert {option for option in options if option not in page} == {"--reload"}


def test_the_reference_tells_every_public_name():
    page = (ROOT / "docs" / "reference.md").read_text()

    assert [name for name in celeryflows.__all__ if f"{name}" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_pages_are_there(page):
    named = re.findall(r"celery -A [\w.<>]+ flows ([\w-]+)", page.read_text())

    assert [name for name in named if name not in loaded(group)] == []


@pytest.mark.parametrize("name", ["django", "flask"])
def test_the_code_of_the_page_stands_in_the_shop_that_the_tests_run(name):
    sources = [without_margin(path.read_text()) for path in (ROOT / "examples" / f"{name}_shop").rglob("*.py")]
    shown = blocks(ROOT / "docs" / f"{name}.md", "python")

    assert len(shown) > 3
    assert [block for block in shown if not any(without_margin(block) in source for source in sources)] == []


def without_margin(text: str) -> str:
    return "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip())


@pytest.mark.parametrize("name", ["quickstart", "celery-tasks"])
def test_the_flows_of_a_page_pass_the_test_of_the_page(monkeypatch, name):
    shop_source, *_, test_source = blocks(ROOT / "docs" / f"{name}.md", "python")
    shop = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", shop)
    exec(compile(shop_source, "shop.py", "exec"), shop.__dict__)
    page: dict[str, object] = {}
    exec(compile(test_source, "test_shop.py", "exec"), page)

    [test] = [made for name, made in page.items() if name.startswith("test_")]
    test()  # type: ignore[operator]


def test_the_tasks_of_the_page_run_as_it_tells():
    page = ModuleType("tasks_page")
    [source] = blocks(ROOT / "docs" / "existing-tasks.md", "python")
    exec(compile(source, "tasks_page.py", "exec"), page.__dict__)
    with FlowsTester(page.flows) as tester:
        tester.send("user/signed.up", {"email": "ann@example.com"})
        tester.start(page.sync_account, account_id=7)
        run = tester.start(page.process_order, order_id=9)
        tester.advance("7 days")

        assert run.output == "9 paid by ch-9"
        found = {one.flow.rpartition(".")[2]: one.output for one in tester.runs()}
        assert (found["send_email"], found["sync_account"], found["report"]) == (
            "welcome to ann@example.com",
            7,
            "today",
        )
