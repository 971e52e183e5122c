"""Tasks that ask for more than Celery can give: rates of one worker, retries in memory, locks of their own."""

import ast
import re
from collections.abc import Iterator
from typing import Any

from celery.utils.time import rate

from celeryflows.cli.adopting.gains import Gain
from celeryflows.cli.adopting.sources import Source
from celeryflows.cli.adopting.written_tasks import WrittenTask, last_word

LOCK = re.compile(
    r"(^|_)(r?e?d?lock(ed)?|mutex|singleton|single_?instance|only_?one|exclusive|no_?overlap|unique)(_|$)", re.I
)
PACKAGES = {"celery_singleton": ("unique_on", "lock_expiry", "raise_on_duplicate"), "celery_once": ("once",)}
PERIODS = (("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0))


def option_gains(one: WrittenTask) -> Iterator[Gain]:
    """What the options and the body of one task would gain."""
    yield from _rate(one)
    yield from _retry(one)
    yield from _package(one)
    yield from _lock(one)


def gain(one: WrittenTask, kind: str, why: str, *, without: tuple[str, ...] = (), **words: str) -> Gain:
    """A gain of the task's decorator."""
    change = one.decorated(without=without, **words)
    imports = tuple(word for value in words.values() for word in re.findall(r"\b[A-Z]\w+(?=\()", value))
    return Gain(kind, change.file, change.line, change.before.strip(), one.name, why, change, imports)


def _rate(one: WrittenTask) -> Iterator[Gain]:
    asked = one.task.rate_limit
    a_second = rate(asked) if asked else 0
    if a_second <= 0:
        return
    where = "" if "rate_limit" in one.options else ", set by task_annotations or task_default_rate_limit,"
    why = f"rate_limit={asked!r}{where} holds for each worker alone; throttle= holds for all of them together."
    yield gain(one, "rate_limit", why, without=("rate_limit",), throttle=_throttle(a_second))


def _throttle(a_second: float) -> str:
    for unit, seconds in PERIODS:
        count = a_second * seconds
        if count >= 1 and abs(count - round(count)) < 1e-6 * count:
            return f'Throttle({round(count)}, "1{unit}")'
    return f'Throttle(1, "{round(1000 / a_second)}ms")'


def _retry(one: WrittenTask) -> Iterator[Gain]:
    calls = [node for node in ast.walk(one.function) if isinstance(node, ast.Call) and _is_retry(node)]
    if "autoretry_for" not in one.options and not calls:
        return
    what = "autoretry_for" if "autoretry_for" in one.options else f"self.retry in line {calls[0].lineno}"
    why = (
        f"{what}: a retry waits as an ETA message in a worker's memory; past the broker's visibility timeout it comes "
        "twice. durable=True lets it wait in the store; same name, same callers."
    )
    yield gain(one, "retry", why, durable="True")


def _is_retry(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "retry"


def _package(one: WrittenTask) -> Iterator[Gain]:
    for package, words in PACKAGES.items():
        if not any(base.__module__.split(".")[0] == package for base in type(one.task).__mro__):
            continue
        why = (
            f"{package} keeps its lock in Redis, where a worker that is killed leaves it until it expires. "
            "singleton= belongs to the run: it ends with it. A call in between is a skipped run that names it."
        )
        key = _key(one.task.unique_on if package == "celery_singleton" else one.task.once.get("keys"), one)
        yield gain(one, "lock", why, without=("base", *words), singleton=f'Singleton("skip"{key})')


def _key(names: object, one: WrittenTask) -> str:
    chosen = [names] if isinstance(names, str) else list(names) if isinstance(names, list | tuple) else one.parameters
    paths = [f"kwargs.{name}" for name in chosen]
    if not paths:
        return ""
    return f', key="{paths[0] if len(paths) == 1 else "[" + ", ".join(paths) + "]"}"'


def _lock(one: WrittenTask) -> Iterator[Gain]:
    found = next((node for node in _locks(one) if last_word(node)), None)
    if found is None:
        return
    names = [name for name in _formatted(found) if name in one.parameters]
    key = _key(names, one) if names else ""
    why = (
        f"{one.source.of(found).splitlines()[0]} in line {found.lineno}: a lock of its own holds a worker while it "
        "waits, or outlives the one that took it. concurrency= lets calls wait in the store, in their order; "
        'singleton=Singleton("skip") skips them. The lock can go then.'
    )
    yield gain(one, "lock", why, concurrency=f"Concurrency(1{key})")


def _locks(one: WrittenTask) -> Iterator[ast.expr]:
    """Decorators, with-blocks and calls that take a lock."""
    for decorator in one.function.decorator_list:
        if decorator is not one.decorator and LOCK.search(last_word(decorator)):
            yield decorator
    for node in ast.walk(one.function):
        if isinstance(node, ast.With | ast.AsyncWith):
            yield from (item.context_expr for item in node.items if LOCK.search(last_word(item.context_expr)))
        if isinstance(node, ast.Call) and _takes(node):
            yield node


def _takes(call: ast.Call) -> bool:
    """`cache.add(...)`, `redis.set(..., nx=True)`, `redis.setnx(...)`, `redis.lock(...)`."""
    if not isinstance(call.func, ast.Attribute):
        return False
    receiver = last_word(call.func.value)
    if call.func.attr == "add":
        return "cache" in receiver
    return call.func.attr in ("setnx", "lock") or any(word.arg == "nx" for word in call.keywords)


def _formatted(node: ast.expr) -> list[str]:
    """The names that stand in what the lock is called: f"sync-{account}", "sync-{account}"."""
    names = [
        one.id
        for part in ast.walk(node)
        if isinstance(part, ast.JoinedStr)
        for one in ast.walk(part)
        if isinstance(one, ast.Name)
    ]
    texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return list(dict.fromkeys([*names, *(name for text in texts for name in re.findall(r"\{(\w+)\}", text))]))


def class_gains(task: Any, source: Source, line: int) -> Iterator[Gain]:
    """The same of a task that is a class: told, and left to whoever wrote it."""
    place = (source.shown, line, source.lines(line, line).strip(), str(task.name))
    if task.rate_limit and rate(task.rate_limit) > 0:
        yield _told("rate_limit", place, f"rate_limit={task.rate_limit!r} holds for each worker alone.")
    if getattr(task, "autoretry_for", None):
        yield _told("retry", place, "autoretry_for: a retry waits as an ETA message in a worker's memory.")


def _told(kind: str, place: tuple[str, int, str, str], why: str) -> Gain:
    file, line, code, name = place
    attribute = "durable = True" if kind == "retry" else "throttle = Throttle(...)"
    return Gain(kind, file, line, code, name, f"{why} A class says {attribute} among its attributes.")
