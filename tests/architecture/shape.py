"""The shape of the house: sizes, purposes, and nevers 8 to 10. Each check takes a root and returns its findings."""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from statistics import median

from tests.architecture.source import (
    Module,
    called_name,
    calls,
    functions,
    public_functions,
    read_imports,
    read_modules,
)

MEDIAN_FILE, BIGGEST_FILE, FUNCTION_P95 = 120, 400, 40
# A median of a few files says nothing yet.
ENOUGH_FILES = 10
VAGUE_NAMES = frozenset(("utils", "util", "common", "helpers", "helper", "base", "core", "manager", "managers", "misc"))
EXECUTES_TEXT = frozenset(("eval", "exec"))
CARRIES_CODE = frozenset(("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"))
SENDS = frozenset(("apply_async", "send_task", "retry", "publish"))
ETA = frozenset(("eta", "countdown"))


@dataclass(frozen=True)
class Shape:
    """The measures of one package."""

    files: int
    median_file: int
    biggest_file: tuple[int, str]
    function_p95: int


def measure(root: Path, package: str) -> Shape:
    """Measure the package below `root`; files of up to three lines and migrations do not count."""
    modules = [
        module for module in read_modules(root, [package]).values() if "/versions/" not in module.path.as_posix()
    ]
    lines = [(count, module.name) for module in modules if (count := line_count(module)) > 3]
    lengths = sorted(length for module in modules for length in function_lengths(module))
    return Shape(
        files=len(lines),
        median_file=int(median(count for count, _ in lines)) if lines else 0,
        biggest_file=max(lines, default=(0, "")),
        function_p95=lengths[int(0.95 * len(lengths))] if lengths else 0,
    )


def out_of_shape(root: Path, package: str) -> list[str]:
    """The measures that are past their bounds."""
    shape = measure(root, package)
    lines, name = shape.biggest_file
    findings = []
    if shape.files >= ENOUGH_FILES and shape.median_file > MEDIAN_FILE:
        findings.append(f"{package} has a median of {shape.median_file} lines a file, at most {MEDIAN_FILE}")
    if lines > BIGGEST_FILE:
        findings.append(f"{name} has {lines} lines, at most {BIGGEST_FILE}: split it by subject")
    if shape.function_p95 > FUNCTION_P95:
        findings.append(f"{package} has functions of {shape.function_p95} lines (p95), at most {FUNCTION_P95}")
    return findings


def without_purpose(root: Path, packages: Sequence[str]) -> list[str]:
    """Files that do not open with what they are for."""
    return [
        f"{module.name} does not say what it is for"
        for module in read_modules(root, packages).values()
        if not (ast.get_docstring(module.tree) or "").strip()
    ]


def vague_names(root: Path, packages: Sequence[str]) -> list[str]:
    """Never 10: files and folders named by what they are not."""
    return [
        f"{module.name} never 10: a name says what is inside"
        for module in read_modules(root, packages).values()
        if VAGUE_NAMES & {part.strip("_").lower() for part in module.name.split(".")}
    ]


def dangerous(root: Path, packages: Sequence[str]) -> list[str]:
    """Text that is run, and formats that carry code."""
    modules = read_modules(root, packages)
    return [finding for module in modules.values() for finding in _dangers(module, modules)]


def _dangers(module: Module, modules: dict[str, Module]) -> Iterator[str]:
    for found in read_imports(module, modules):
        if found.target.split(".")[0] in CARRIES_CODE:
            yield f"{found.where} imports {found.target}: nothing but JSON is stored or sent"
    for call in calls(module):
        called = ast.unparse(call.func)
        if called.removeprefix("builtins.") in EXECUTES_TEXT:
            yield f"{module.at(call.lineno)} calls {called}(): expressions are CEL"


def eta_messages(root: Path, packages: Sequence[str]) -> list[str]:
    """Never 8: waiting by a message's eta or countdown. A literal None is what turns it off."""
    return [
        f"{module.at(call.lineno)} never 8: {called_name(call)}({word.arg}=...) waits in the broker, not in the store"
        for module in read_modules(root, packages).values()
        for call in calls(module)
        if called_name(call) in SENDS
        for word in call.keywords
        if word.arg in ETA and not (isinstance(word.value, ast.Constant) and word.value.value is None)
    ]


def boolean_positions(root: Path, packages: Sequence[str]) -> list[str]:
    """Never 10: parameters of public functions that can be passed as a bare True or False."""
    return [
        f"{module.at(function.lineno)} never 10: {function.name}({argument}) takes a bare bool: use a keyword"
        for module in read_modules(root, packages).values()
        for function in public_functions(module)
        for argument in _positional_bools(function)
    ]


def _positional_bools(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    arguments = [*function.args.posonlyargs, *function.args.args]
    pairs = zip_longest(reversed(arguments), reversed(function.args.defaults))
    for argument, default in pairs:
        annotation = ast.unparse(argument.annotation) if argument.annotation else ""
        by_default = isinstance(default, ast.Constant) and isinstance(default.value, bool)
        if by_default or re.fullmatch(r"(Optional\[)?bool\]?( \| None)?", annotation):
            yield argument.arg


def line_count(module: Module) -> int:
    """Lines of the file."""
    return module.path.read_text(encoding="utf-8").count("\n")


def function_lengths(module: Module) -> list[int]:
    """Lines of each function, from its `def` to its end."""
    return [(function.end_lineno or function.lineno) - function.lineno + 1 for function in functions(module)]
