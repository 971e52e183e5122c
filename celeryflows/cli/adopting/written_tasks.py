"""The tasks as they are written down: each function of a task, and its decorator with other options."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celeryflows.cli.adopting.gains import Change
from celeryflows.cli.adopting.sources import Source, code_of

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class WrittenTask:
    """A registered task and the function that it was made of."""

    task: Any
    source: Source
    function: Function
    decorator: ast.expr

    @property
    def name(self) -> str:
        """Its registered name."""
        return str(self.task.name)

    @property
    def options(self) -> dict[str, ast.expr]:
        """The keywords of its decorator."""
        words = self.decorator.keywords if isinstance(self.decorator, ast.Call) else []
        return {word.arg: word.value for word in words if word.arg is not None}

    @property
    def parameters(self) -> list[str]:
        """What a call is given."""
        arguments = self.function.args
        names = [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        return names[1:] if "bind" in self.options else names

    def decorated(self, *, without: Sequence[str] = (), **words: str) -> Change:
        """The decorator's lines with these options more and those less."""
        call, source = self.decorator, self.source
        given: list[str] = []
        if isinstance(call, ast.Call):
            given = [source.of(one) for one in call.args]
            given += [_word(source, one) for one in call.keywords if one.arg not in {*without, *words}]
        target = source.of(call.func if isinstance(call, ast.Call) else call)
        given += [f"{name}={value}" for name, value in words.items()]
        first, last = call.lineno, call.end_lineno or call.lineno
        margin = " " * (call.col_offset - 1)
        return Change(source.shown, first, source.lines(first, last), f"{margin}@{target}({', '.join(given)})")


def written_tasks(app: Any, sources: Sequence[Source]) -> list[WrittenTask]:
    """The app's tasks that stand in these files under a decorator."""
    by_place = {place: task for task in app.tasks.values() if (place := _place(task)) is not None}
    return [found for source in sources for found in _in(source, by_place)]


def _place(task: Any) -> tuple[str, int] | None:
    code = code_of(task)
    return None if code is None else (code.co_filename, code.co_firstlineno)


def _in(source: Source, by_place: Mapping[tuple[str, int], Any]) -> Iterator[WrittenTask]:
    for node in ast.walk(source.tree):
        if not isinstance(node, Function) or not node.decorator_list:
            continue
        task = by_place.get((str(source.path), min(one.lineno for one in node.decorator_list)))
        if task is None:
            continue
        decorator = next((one for one in node.decorator_list if _is_task(one)), None)
        if decorator is not None:
            yield WrittenTask(task, source, node, decorator)


def _is_task(decorator: ast.expr) -> bool:
    return last_word(decorator) in ("task", "shared_task")


def last_word(node: ast.expr) -> str:
    """`task` for `app.task` and for `app.task(...)`."""
    target = node.func if isinstance(node, ast.Call) else node
    return getattr(target, "attr", "") or getattr(target, "id", "")


def _word(source: Source, word: ast.keyword) -> str:
    return f"**{source.of(word.value)}" if word.arg is None else f"{word.arg}={source.of(word.value)}"
