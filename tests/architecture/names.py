"""The public face of a package: sorted, complete, and each name explained."""

import inspect
from types import ModuleType


def unsorted_face(package: ModuleType) -> list[str]:
    """What is wrong with `__all__` itself."""
    names = list(getattr(package, "__all__", []))
    if not names:
        return [f"{package.__name__} has no __all__"]
    return [] if names == sorted(set(names)) else [f"{package.__name__}.__all__ is not sorted: {sorted(set(names))}"]


def incomplete_face(package: ModuleType) -> list[str]:
    """Names that are promised and missing, or there and not promised. Submodules come by themselves."""
    promised = set(getattr(package, "__all__", []))
    there = {
        name for name, value in vars(package).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    missing = [name for name in sorted(promised) if not hasattr(package, name)]
    return [
        *(f"{package.__name__}.{name} is in __all__ and cannot be imported" for name in missing),
        *(f"{package.__name__}.{name} can be imported and is not in __all__" for name in sorted(there - promised)),
    ]


def unexplained_names(package: ModuleType) -> list[str]:
    """Public names without a docstring of their own of more than one word."""
    names = [name for name in getattr(package, "__all__", []) if hasattr(package, name)]
    return [
        f"{package.__name__}.{name} has no docstring that explains it"
        for name in names
        if len(own_docstring(getattr(package, name)).split()) < 2
    ]


def own_docstring(value: object) -> str:
    """The docstring that was written for the value: neither inherited nor made by dataclasses."""
    if not inspect.isclass(value):
        # An instance or a constant has its class's docstring, which explains another thing unless the class is ours.
        builtin = type(value).__module__ == "builtins" and not callable(value)
        return "" if builtin else inspect.getdoc(value) or ""
    docstring: str = vars(value).get("__doc__") or ""
    return "" if docstring.startswith(f"{value.__name__}(") else docstring
