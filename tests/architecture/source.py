"""Reads the modules of a source tree and what each imports, without running them."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TOP, LAZY, TYPE_ONLY = "top", "lazy", "type-only"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Module:
    """One file, by its dotted name."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """True for a folder's `__init__.py`."""
        return self.path.name == "__init__.py"

    def at(self, line: int) -> str:
        """The place of a finding: `celeryflows.engine.turn:12`."""
        return f"{self.name}:{line}"


@dataclass(frozen=True)
class Import:
    """One imported name. `target` is the module it comes from, `name` what is taken of it (None for `import x`)."""

    by: str
    target: str
    name: str | None
    kind: str
    line: int

    @property
    def where(self) -> str:
        """The place of the import: `celeryflows.engine.turn:12`."""
        return f"{self.by}:{self.line}"


def read_modules(root: Path, packages: Sequence[str]) -> dict[str, Module]:
    """Every module of the packages below `root`, by name. A package that is not there has none."""
    modules = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            modules[name] = Module(name, path, _parsed(path, path.stat().st_mtime_ns))
    return modules


@cache
def _parsed(path: Path, changed_at: int) -> ast.Module:
    """Every check reads all files: each is parsed once."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def read_imports(module: Module, modules: dict[str, Module]) -> list[Import]:
    """Every import of the module, in any place; `modules` tell submodules from other names."""
    return list(_walk(module, module.tree, TOP, _with_folders(modules)))


def all_imports(modules: dict[str, Module]) -> list[Import]:
    """The imports of all modules."""
    known = _with_folders(modules)
    return [found for module in modules.values() for found in _walk(module, module.tree, TOP, known)]


def _with_folders(modules: dict[str, Module]) -> set[str]:
    """The names of the modules and of the folders they are in, which need no `__init__.py`."""
    return {
        ".".join(parts[:end]) for name in modules for parts in [name.split(".")] for end in range(1, len(parts) + 1)
    }


def _walk(module: Module, node: ast.AST, kind: str, known: set[str]) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(module.name, alias.name, None, kind, child.lineno)
        elif isinstance(child, ast.ImportFrom):
            yield from _from(module, child, kind, known)
        elif isinstance(child, ast.Call):
            yield from _by_name(module, child)
            yield from _walk(module, child, kind, known)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _walk(module, ast.Module(child.body, []), TYPE_ONLY, known)
            yield from _walk(module, ast.Module(child.orelse, []), kind, known)
        else:
            yield from _walk(module, child, LAZY if isinstance(child, FUNCTIONS) else kind, known)


def _from(module: Module, node: ast.ImportFrom, kind: str, known: set[str]) -> Iterator[Import]:
    base = node.module or ""
    if node.level:
        package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
        package = package[: len(package) - (node.level - 1)]
        base = ".".join([*package, *([node.module] if node.module else [])])
    for alias in node.names:
        submodule = f"{base}.{alias.name}"
        if submodule in known:
            yield Import(module.name, submodule, None, kind, node.lineno)
        else:
            yield Import(module.name, base, alias.name, kind, node.lineno)


def _by_name(module: Module, call: ast.Call) -> Iterator[Import]:
    """`import_module("x")` and `__import__("x")` hide an import as well as a function does."""
    called = called_name(call)
    if called in ("import_module", "__import__") and call.args and isinstance(call.args[0], ast.Constant):
        yield Import(module.name, str(call.args[0].value), None, LAZY, call.lineno)


def called_name(call: ast.Call) -> str:
    """The last word of what is called: `now` for `datetime.now()`."""
    return getattr(call.func, "attr", "") or getattr(call.func, "id", "")


def calls(module: Module) -> Iterator[ast.Call]:
    """Every call in the module."""
    return (node for node in ast.walk(module.tree) if isinstance(node, ast.Call))


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, nested ones too."""
    return (node for node in ast.walk(module.tree) if isinstance(node, FUNCTIONS))


def public_functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions of the module and methods of its classes without a leading underscore on the way."""
    return _public_in(module.tree)


def _public_in(node: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for child in node.body:
        if isinstance(child, FUNCTIONS) and not child.name.startswith("_"):
            yield child
        elif isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from _public_in(child)
