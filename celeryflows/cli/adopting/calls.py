"""Calls that wait as ETA messages, whatever they call."""

import ast
from collections.abc import Iterable, Iterator

from celeryflows.cli.adopting.gains import Gain
from celeryflows.cli.adopting.sources import Source
from celeryflows.cli.adopting.written_tasks import WrittenTask, last_word

SENDS = ("apply_async", "apply_async_on_commit", "send_task", "signature", "subtask", "set")
WAITS = ("countdown", "eta")


class Calls:
    """Finds calls with `eta` or `countdown`, of any but the tasks whose calls are runs already."""

    def __init__(self, tasks: Iterable[WrittenTask], gained: Iterable[str]) -> None:
        self._tasks: dict[str, WrittenTask] = {}
        for one in tasks:
            self._tasks[one.function.name] = self._tasks[one.name] = one
        self._gained = {word for name in gained for word in (name, name.rpartition(".")[2])} - self._tasks.keys()

    def gains(self, source: Source) -> Iterator[Gain]:
        """Those of one file."""
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Call) or last_word(node) not in SENDS:
                continue
            word = next((word.arg for word in node.keywords if word.arg in WAITS and not _is_none(word.value)), None)
            target = _target(node)
            if word is not None and target not in self._gained:
                yield self._gain(source, node, word, self._tasks.get(target))

    def _gain(self, source: Source, node: ast.Call, word: str, one: WrittenTask | None) -> Gain:
        why = (
            f"{word}=: the message waits in a worker's memory; past the broker's visibility timeout it is delivered "
            "again and again. A durable task's call is a scheduled run in the store."
        )
        change = None if one is None else one.decorated(durable="True")
        code = source.lines(node.lineno, node.lineno).strip()
        return Gain("eta", source.shown, node.lineno, code, None if one is None else one.name, why, change)


def _target(call: ast.Call) -> str:
    """The function's or task's name: `bill` of `bill.apply_async(...)`, of `bill.s(1).set(...)` and `shop.bill`."""
    if last_word(call) in ("send_task", "signature") and call.args and isinstance(call.args[0], ast.Constant):
        return str(call.args[0].value)
    receiver = getattr(call.func, "value", None)
    while isinstance(receiver, ast.Call):
        receiver = getattr(receiver.func, "value", None)
    return "" if receiver is None else last_word(receiver)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
