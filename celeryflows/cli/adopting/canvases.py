"""Chains, groups and chords in the source, and each as the flow that it could be."""

import ast
import re
from collections.abc import Iterator, Sequence

from celeryflows.cli.adopting.gains import Change, Gain
from celeryflows.cli.adopting.sources import Source
from celeryflows.cli.adopting.written_tasks import Function, last_word

CANVASES = ("chain", "group", "chord")
SIGNATURES = ("s", "si", "signature", "subtask")
WHY = (
    "a canvas loses its end when a message, a result or a counter is lost, and starts again from its first task. As a "
    "flow each of its tasks is a step that is kept, and a rerun goes on from the one that failed."
)


def canvas_gains(source: Source) -> Iterator[Gain]:
    """The outermost canvases of one file."""
    known = _names(source.tree)
    built = _builders(source.tree)
    for function, node in _outermost(source.tree, known, None):
        if function is not None and function.name in built:
            continue
        name = f"{function.name}_flow" if function is not None else f"canvas_{node.lineno}"
        change = _as_flow(source, node, name, _locals(function))
        yield Gain("canvas", source.shown, node.lineno, source.of(node).splitlines()[0], None, WHY, change)


def _as_flow(source: Source, node: ast.expr, name: str, around: set[str]) -> Change | None:
    """None for a canvas that is given signatures: these are no data."""
    inside = _stored(node)
    taken = list(_taken(node, around - inside))
    values = _values(node)
    if any(id(one) not in values or inside & _read(one) for one in taken):
        return None
    canvas, asked = _with_data(source, node, taken)
    call = f"{name}.delay({', '.join(f'{key}={value}' for key, value in asked.items())})"
    after = f'{name} = flows.from_canvas(lambda data: {canvas}, name="{name}")\n{call}'
    return Change(source.shown, node.lineno, source.of(node), after)


def _names(tree: ast.Module) -> dict[str, str]:
    """What this file calls Celery's canvases."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {
        one.asname or one.name: one.name
        for node in imports
        if str(node.module).split(".")[0] == "celery"
        for one in node.names
        if one.name in CANVASES
    }


def _builders(tree: ast.Module) -> set[str]:
    """The functions that make canvases for flows already."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and last_word(node) == "from_canvas"]
    return {one.id for call in calls for one in call.args if isinstance(one, ast.Name)}


def _is_step(node: ast.AST) -> bool:
    """`flows.from_canvas(canvas)` and `ctx.step.task("id", canvas)` have gained already."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr == "from_canvas" or (node.func.attr == "task" and last_word(node.func.value) == "step")


def _outermost(
    node: ast.AST, known: dict[str, str], function: Function | None
) -> Iterator[tuple[Function | None, ast.expr]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr) and _is_canvas(child, known):
            yield function, child
        elif not _is_step(child):
            yield from _outermost(child, known, child if isinstance(child, Function) else function)


def _is_canvas(node: ast.expr, known: dict[str, str]) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return any(_is_canvas(side, known) or _is_signature(side) for side in (node.left, node.right))
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Call):
        # A chord that is called with its body.
        return _canvas_of(node.func, known) == "chord" and bool(node.args) and bool(node.func.args)
    return bool(node.args) and _canvas_of(node, known) in CANVASES


def _canvas_of(call: ast.Call, known: dict[str, str]) -> str | None:
    if isinstance(call.func, ast.Name):
        return known.get(call.func.id)
    is_celerys = isinstance(call.func, ast.Attribute) and last_word(call.func.value) == "celery"
    return last_word(call) if is_celerys else None


def _is_signature(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SIGNATURES


# -- what a canvas takes from the function around it


def _locals(function: Function | None) -> set[str]:
    if function is None:
        return set()
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {one.arg for one in named if one is not None} | _stored(function)


def _stored(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def _read(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _values(canvas: ast.expr) -> set[int]:
    """All that stands in the arguments of signatures, and what comprehensions go over."""
    places: list[ast.AST] = []
    for node in ast.walk(canvas):
        if isinstance(node, ast.comprehension):
            places.append(node.iter)
        elif isinstance(node, ast.Call) and _is_signature(node):
            places += [*node.args, *node.keywords]
    return {id(one) for place in places for one in ast.walk(place)}


def _with_data(source: Source, canvas: ast.expr, taken: Sequence[ast.expr]) -> tuple[str, dict[str, str]]:
    """The canvas with `data["..."]` for what it takes from around it, and what the call gives under these names."""
    (at, end), asked = source.span(canvas), dict[str, str]()
    instead = dict(_joined(source, canvas))
    for node in taken:
        key = "_".join(re.findall(r"\w+", source.of(node)))
        asked[key] = source.of(node)
        instead[source.span(node)] = f'data["{key}"]'
    text = ""
    for (first, last), new in sorted(instead.items()):
        text += source.text[at:first] + new
        at = last
    return text + source.text[at:end], asked


def _joined(source: Source, canvas: ast.expr) -> Iterator[tuple[tuple[int, int], str]]:
    """`chord(header)(body)` would start at once: it becomes `chord(header, body)`."""
    if isinstance(canvas, ast.Call) and isinstance(canvas.func, ast.Call):
        header, body = canvas.func.args[-1], canvas.args[0]
        yield (source.span(header)[1], source.span(body)[0]), ", "


def _taken(node: ast.expr, outside: set[str]) -> Iterator[ast.expr]:
    """The longest expressions that hang on a name from outside: `order`, `order.id`, `orders.of(day)`, f"{order}"."""
    todo: list[ast.AST] = [node]
    while todo:
        one = todo.pop()
        if isinstance(one, ast.expr) and (
            _root(one) in outside or (isinstance(one, ast.JoinedStr) and outside & _read(one))
        ):
            yield one
        else:
            todo += ast.iter_child_nodes(one)


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
