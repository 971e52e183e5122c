"""The source that is read: the project's modules that the app has loaded, and files that were named."""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Source:
    """One file. `shown` is its path as it is told."""

    path: Path
    shown: str
    text: str
    tree: ast.Module

    def lines(self, first: int, last: int) -> str:
        """Whole lines, the last one included, without their common end."""
        return "\n".join(self.text.split("\n")[first - 1 : last])

    def span(self, node: ast.expr) -> tuple[int, int]:
        """Where a node begins and ends in the text."""
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno or 1, node.end_col_offset or 0)

    def _at(self, line: int, column: int) -> int:
        lines = self.text.split("\n")
        # Python counts columns in bytes.
        return sum(len(before) + 1 for before in lines[: line - 1]) + len(lines[line - 1].encode()[:column].decode())

    def of(self, node: ast.AST) -> str:
        """The text of a node, as it was written."""
        return ast.get_source_segment(self.text, node) or ast.unparse(node)


def project_sources(app: Any, named: Iterable[Path]) -> tuple[list[Source], list[str]]:
    """The files of the app, sorted: those loaded below this folder, those of its tasks, and those that were named; and
    which could not be read.

    What is installed is nobody's to change, and is left out.
    """
    here = Path.cwd().resolve()
    files = {path for path in _loaded() if path.is_relative_to(here)}
    files |= {Path(code.co_filename).resolve() for task in app.tasks.values() if (code := code_of(task)) is not None}
    wanted = {path for path in files if not set(INSTALLED) & set(path.parts) and path.is_file()}
    wanted -= {path for path in wanted if _is_ours(path)}
    wanted |= {path.resolve() for one in named for path in (one.rglob("*.py") if one.is_dir() else [one])}
    read, unread = list[Source](), list[str]()
    for path in sorted(wanted):
        try:
            read.append(_read(path, here))
        except (OSError, SyntaxError, ValueError) as error:
            unread.append(f"{path}: {error}")
    return read, unread


def code_of(task: Any) -> Any:
    """The code of a task's own function, None for a built-in one."""
    run = task.run
    while (inner := getattr(run, "__wrapped__", None)) is not None:
        run = inner
    return getattr(run, "__code__", None)


def _loaded() -> Iterator[Path]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file is not None and str(file).endswith(".py"):
            yield Path(file).resolve()


def _is_ours(path: Path) -> bool:
    return Path(__file__).resolve().parents[2] in path.parents


def _read(path: Path, here: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return Source(path, str(shown), text, ast.parse(text, str(path)))
