"""Each architecture check can fail: made-up modules that break one rule are reported, and a good house is not."""

import types
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.architecture import shape
from tests.architecture.directions import broken_directions
from tests.architecture.names import incomplete_face, unexplained_names, unsorted_face

Build = Callable[[dict[str, str]], Path]

GOOD_HOUSE = {
    "celeryflows/__init__.py": '"""Face."""\nfrom celeryflows.app import Flows\n__all__ = ["Flows"]',
    "celeryflows/errors.py": "class FlowsError(Exception): ...",
    "celeryflows/ids.py": "import os\ndef new_id(): ...\ndef hash64(text): ...",
    "celeryflows/clock.py": "import time\nclass Clock: ...",
    "celeryflows/model/runs.py": "from celeryflows.clock import Clock\nfrom celeryflows.ids import hash64",
    "celeryflows/flow_control/throttle.py": "from celeryflows.model.runs import Clock",
    "celeryflows/store/database.py": "import sqlalchemy\nfrom celeryflows.model import runs",
    "celeryflows/engine/turn.py": "import celeryflows.flow_control.throttle\nfrom celeryflows.store import database",
    "celeryflows/celery_bridge/flow_task.py": "import celery\nfrom celeryflows.engine import turn",
    "celeryflows/console/runs.py": "from celeryflows.engine.turn import database",
    "celeryflows/app.py": "from celeryflows.celery_bridge import flow_task\nclass Flows: ...",
    "celeryflows/cli.py": "import celery\ndef dashboard():\n    from flask_dashboard import create_app",
    "flask_dashboard/pages.py": "import flask\nfrom celeryflows import Flows, console\nimport celeryflows.console.runs",
}

DIRECTIONS = {
    "never 1: a rule asks the time": ("celeryflows/model/waits.py", "import time", "never 1"),
    "never 1: a rule rolls dice": ("celeryflows/model/waits.py", "from random import random", "never 1"),
    "never 1: a rule opens a file": ("celeryflows/flow_control/batch.py", "open('x')", "never 1"),
    "never 1: a rule asks a datetime": (
        "celeryflows/expressions.py",
        "from datetime import datetime\ndatetime.now()",
        "never 1",
    ),
    "never 1: matching knows Celery": ("celeryflows/engine/matching.py", "import celery.result", "never 1"),
    "never 1: a rule makes ids": ("celeryflows/model/events.py", "from celeryflows.ids import new_id", "never 1"),
    "never 2: the engine speaks SQL": ("celeryflows/engine/finish.py", "from sqlalchemy import text", "never 2"),
    "never 2: the app types a Session": (
        "celeryflows/app.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sqlalchemy.orm import Session",
        "never 2",
    ),
    "never 3: the store decides": ("celeryflows/store/gates.py", "from celeryflows import flow_control", "never 3"),
    "never 3: the store acts": ("celeryflows/store/gates.py", "import celeryflows.engine.turn", "never 3"),
    "never 4: the scheduler knows Celery": ("celeryflows/scheduler/tick.py", "import kombu", "never 4"),
    "never 5: the engine knows the bridge": (
        "celeryflows/engine/resume.py",
        "from celeryflows.celery_bridge.flow_task import flow",
        "never 5",
    ),
    "never 5: the engine knows the scheduler": (
        "celeryflows/engine/resume.py",
        "from ..scheduler import tick",
        "never 5",
    ),
    "never 6: a page reads the store": ("flask_dashboard/runs.py", "from celeryflows.store import database", "never 6"),
    "never 6: a page takes a private name": ("flask_dashboard/runs.py", "from celeryflows import _app", "never 6"),
    "never 6: the console knows flask": ("celeryflows/console/events.py", "import flask", "never 6"),
    "never 6: the app knows the dashboard": ("celeryflows/app.py", "import flask_dashboard", "never 6"),
    "never 7: the ground looks up": ("celeryflows/codec.py", "from celeryflows.model import runs", "import upward"),
    "never 7: for types too": (
        "celeryflows/scheduler/timers.py",
        "import typing\nif typing.TYPE_CHECKING:\n    from celeryflows.app import Flows",
        "type-only import upward",
    ),
    "never 7: hidden in a function": (
        "celeryflows/engine/finish.py",
        "def finish():\n    from celeryflows.store import database",
        "inside a function",
    ),
    "never 7: hidden in a name": (
        "celeryflows/engine/finish.py",
        "import importlib\nimportlib.import_module('celeryflows.app')",
        "import upward",
    ),
    "never 7: a room without a row": ("celeryflows/warehouse.py", "import celeryflows.errors", "no row in LAYERS"),
}


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Write files below a root, the root returned."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        return tmp_path

    return write


def test_a_good_house_breaks_no_direction(build: Build) -> None:
    assert broken_directions(build(GOOD_HOUSE)) == []


def test_packages_that_are_not_there_yet_break_nothing(tmp_path: Path) -> None:
    assert broken_directions(tmp_path) == []
    assert shape.out_of_shape(tmp_path, "celeryflows") == []
    assert shape.without_purpose(tmp_path, ["flask_dashboard"]) == []


@pytest.mark.parametrize(("path", "text", "rule"), DIRECTIONS.values(), ids=DIRECTIONS)
def test_a_broken_direction_is_reported(build: Build, path: str, text: str, rule: str) -> None:
    name = path.removesuffix(".py").replace("/", ".")

    findings = broken_directions(build(GOOD_HOUSE | {path: text}))

    assert any(finding.startswith(name) and rule in finding for finding in findings), findings


@pytest.mark.parametrize("guard", ["", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "])
def test_a_circle_is_reported(build: Build, guard: str) -> None:
    knot = {
        "celeryflows/engine/turn.py": "import celeryflows.engine.finish",
        "celeryflows/engine/finish.py": "from celeryflows.engine import resume",
        "celeryflows/engine/resume.py": f"{guard}from celeryflows.engine.turn import turn",
    }

    findings = broken_directions(build(GOOD_HOUSE | knot))

    ring = "celeryflows.engine.finish, celeryflows.engine.resume, celeryflows.engine.turn"
    assert findings == [f"celeryflows.engine.finish never 7: an import circle of {ring}"]


def test_a_file_without_purpose_is_reported(build: Build) -> None:
    root = build(
        {"celeryflows/a.py": "import os", "celeryflows/b.py": '"""Says it."""', "celeryflows/c/__init__.py": ""}
    )

    assert shape.without_purpose(root, ["celeryflows"]) == [
        "celeryflows.a does not say what it is for",
        "celeryflows.c does not say what it is for",
    ]


def test_a_big_file_is_reported(build: Build) -> None:
    root = build({"celeryflows/big.py": "x = 1\n" * shape.BIGGEST_FILE})

    assert shape.out_of_shape(root, "celeryflows") == [
        "celeryflows.big has 401 lines, at most 400: split it by subject"
    ]


def test_files_that_are_long_in_the_middle_are_reported(build: Build) -> None:
    root = build({f"celeryflows/m{i}.py": "x = 1\n" * shape.MEDIAN_FILE for i in range(shape.ENOUGH_FILES)})

    assert shape.out_of_shape(root, "celeryflows") == ["celeryflows has a median of 121 lines a file, at most 120"]


def test_long_functions_are_reported(build: Build) -> None:
    root = build({"celeryflows/long.py": "def f():\n" + "    x = 1\n" * shape.FUNCTION_P95})

    assert shape.out_of_shape(root, "celeryflows") == ["celeryflows has functions of 41 lines (p95), at most 40"]


@pytest.mark.parametrize("path", ["celeryflows/utils.py", "celeryflows/core/a.py", "celeryflows/_helpers.py"])
def test_a_vague_name_is_reported(build: Build, path: str) -> None:
    assert len(shape.vague_names(build({path: ""}), ["celeryflows"])) == 1


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import dill",
        "eval('1')",
        "import builtins\nbuiltins.exec('1')",
    ],
)
def test_what_runs_text_is_reported(build: Build, text: str) -> None:
    assert len(shape.dangerous(build({"celeryflows/a.py": text}), ["celeryflows"])) == 1


def test_other_words_are_left_alone(build: Build) -> None:
    root = build({"celeryflows/a.py": "import re\nre.compile('x')\nmodel.eval()\nconnection.exec('x')"})

    assert shape.dangerous(root, ["celeryflows"]) == []


def test_a_message_that_waits_is_reported(build: Build) -> None:
    root = build({"celeryflows/a.py": "t.apply_async(countdown=3)\nt.apply_async(eta=None)\nstore.sleep(countdown=3)"})

    assert shape.eta_messages(root, ["celeryflows"]) == [
        "celeryflows.a:1 never 8: apply_async(countdown=...) waits in the broker, not in the store"
    ]


@pytest.mark.parametrize(
    ("signature", "found"),
    [
        ("a: bool", 1),
        ("self, a: bool | None = None", 1),
        ("a, b=True", 1),
        ("a: bool, /, b: int = 1", 1),
        ("a, *, b: bool = False", 0),
        ("a: int = 1, b=None", 0),
    ],
)
def test_a_bare_bool_is_reported(build: Build, signature: str, found: int) -> None:
    public, private = f"    def call({signature}): ...\n", f"    def _call({signature}): ...\n"
    text = f"class C:\n{public}{private}class _C:\n{public}"

    assert len(shape.boolean_positions(build({"celeryflows/a.py": text}), ["celeryflows"])) == found


def test_a_wrong_face_is_reported() -> None:
    package = types.ModuleType("face")
    assert unsorted_face(package) == ["face has no __all__"]

    package.__dict__.update(__all__=["b", "a", "gone"], a=1, b=2, extra=3, _hidden=4, submodule=types)

    assert unsorted_face(package) == ["face.__all__ is not sorted: ['a', 'b', 'gone']"]
    assert incomplete_face(package) == [
        "face.gone is in __all__ and cannot be imported",
        "face.extra can be imported and is not in __all__",
    ]


def test_a_name_without_explanation_is_reported() -> None:
    class Explained:
        """Says what it does."""

    class Inherits(Explained): ...

    class OneWord:
        """Word."""

    class Generated:
        __doc__ = "Generated(a: int, b: int)"

    def silent() -> None: ...

    package = types.ModuleType("face")
    names = {"Explained": Explained, "Inherits": Inherits, "OneWord": OneWord, "Generated": Generated, "silent": silent}
    package.__dict__.update(names, __all__=[*names, "number", "instance"], number=3, instance=Explained())

    assert [finding.split()[0] for finding in unexplained_names(package)] == [
        "face.Inherits",
        "face.OneWord",
        "face.Generated",
        "face.silent",
        "face.number",
    ]
