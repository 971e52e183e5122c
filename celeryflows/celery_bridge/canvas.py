"""Celery's canvas read as a tree, by Celery's own rules: what is spliced, unrolled, flattened, and in which order."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from celery import Celery
from celery.app.task import Task
from celery.canvas import Signature, _chain, _chord, chunks, group, maybe_signature, xmap, xstarmap
from kombu.utils import json

from celeryflows.errors import DeclarationError
from celeryflows.model.canvases import Line, Node, Parallel, closed, gives_list
from celeryflows.model.remote_tasks import TaskCall

MAPS = ("celery.map", "celery.starmap")
# The place in Celery's own canvas is none of a member's: it is sent alone.
PLACE = frozenset({"task_id", "group_id", "group_index", "chord", "chain", "root_id", "parent_id", "reply_to"})
BUILD = "build canvas"


def read_canvas(given: Mapping[str, Any], app: Celery | None) -> Node:
    """The plan of a signature or canvas. Raises TypeError for a chord without a body."""
    canvas = maybe_signature(given, app=app)
    if isinstance(canvas, group):
        parts = tuple(_members(canvas, app, backwards=False))
        # Celery's one exception: a group of one, whose value is a list, is that list.
        return parts[0] if len(parts) == 1 and gives_list(parts[0]) else Parallel(parts)
    return _node(canvas, app)


def _node(given: Any, app: Celery | None) -> Node:
    canvas = _typed(given, app)
    if isinstance(canvas, _chain):
        line = _line(canvas, app)
        return closed(line) if canvas.immutable else line
    if isinstance(canvas, _chord):
        return _chord_line(canvas, app)
    if isinstance(canvas, chunks):
        return _node(canvas.group(), app)
    if isinstance(canvas, group):
        return Parallel(tuple(_members(canvas, app, backwards=True)))
    return _call(canvas)


def _typed(given: Any, app: Celery | None) -> Signature:
    """As Celery has it where it was written; what came as JSON tells no type of maps and chunks."""
    canvas = maybe_signature(given, app=app)
    if canvas.task == "celery.chunks" and not isinstance(canvas, chunks):
        return chunks.from_dict(canvas, app=app)
    return canvas


def _line(canvas: _chain, app: Celery | None) -> Node:
    given = [_typed(one, app) for one in canvas.tasks]
    nodes = [node for one in given for node in _spliced(one, app)]
    filled = [node for node in nodes if node != Parallel(())]
    parts = filled or nodes[:1]
    for option in ("link_error",):
        parts = [_with(part, option, canvas.options.get(option)) for part in parts]
    if parts:
        parts[-1] = _with_last(parts[-1], canvas.options.get("link"))
        parts[0] = _under(parts[0], canvas.options)
        parts[0] = _taking(parts[0], tuple(canvas.args))
    return parts[0] if len(parts) == 1 else Line(tuple(parts))


def _spliced(given: Signature, app: Celery | None) -> Iterator[Node]:
    """A step of a chain: a chain in it is part of it, and a group of one is its member."""
    if isinstance(given, group):
        members = tuple(_members(given, app, backwards=True))
        yield members[0] if len(members) == 1 and len(list(given.tasks)) == 1 else Parallel(members)
        return
    node = _node(given, app)
    yield from node.parts if isinstance(given, _chain) and isinstance(node, Line) else (node,)


def _chord_line(canvas: _chord, app: Celery | None) -> Node:
    body = canvas.kwargs.get("body")
    if body is None:
        raise TypeError(f"{canvas!r:.80} is a chord without a body; give it one: chord(header, body)")
    header = canvas.tasks if isinstance(canvas.tasks, group) else group(list(canvas.tasks), app=app)
    last = _with(
        _with_last(_node(body, app), canvas.options.get("link")), "link_error", canvas.options.get("link_error")
    )
    first = _under(Parallel(tuple(_members(header, app, backwards=True))), canvas.options)
    return Line((_taking(first, tuple(canvas.args)), _under(last, canvas.options)))


def _members(canvas: group, app: Celery | None, *, backwards: bool) -> Iterator[Node]:
    """A group's members; groups in it are part of it, in Celery backwards where it prepares a group beforehand."""
    return _flat(canvas, list(canvas.tasks), app, backwards=backwards)


def _flat(canvas: group, tasks: list[Any], app: Celery | None, *, backwards: bool) -> Iterator[Node]:
    for task in tasks:
        one = _typed(task, app)
        if isinstance(one, group):
            inner = list(one.tasks)
            for node in _flat(one, inner[::-1] if backwards else inner, app, backwards=backwards):
                yield _under(node, canvas.options)
        elif not (isinstance(one, _chain) and not one.tasks):
            yield _under(_taking(_node(one, app), tuple(canvas.args)), canvas.options)


def _call(signature: Signature) -> TaskCall:
    args, kwargs, options = tuple(signature.args), dict(signature.kwargs), dict(signature.options)
    options = {name: value for name, value in options.items() if name not in PLACE}
    label, immutable = str(signature.task).rpartition(".")[2], bool(signature.immutable)
    if signature.task in MAPS or isinstance(signature, xmap | xstarmap):
        inner = str(kwargs["task"]["task"])
        # It goes where the task goes that it calls.
        options.setdefault("route_name", inner)
        label, immutable = f"{inner.rpartition('.')[2]} {label}", True
        kwargs = {**kwargs, "it": list(kwargs["it"])}
    return TaskCall(signature.task, args, kwargs, options, immutable, label)


# -- what a canvas has of its own, put on its members


def _each(node: Node, change: Callable[[TaskCall], TaskCall]) -> Node:
    if isinstance(node, TaskCall):
        return change(node)
    return type(node)(tuple(_each(part, change) for part in node.parts))


def _with(node: Node, option: str, callbacks: Any) -> Node:
    """Callbacks for every member."""
    more = _listed(callbacks)
    if not more:
        return node
    return _each(
        node, lambda call: replace(call, options={**call.options, option: [*_listed(call.options.get(option)), *more]})
    )


def _with_last(node: Node, callbacks: Any) -> Node:
    """Callbacks for the end: the last part of a line."""
    if isinstance(node, Line) and node.parts:
        return Line((*node.parts[:-1], _with_last(node.parts[-1], callbacks)))
    return _with(node, "link", callbacks)


def _under(node: Node, options: Mapping[str, Any]) -> Node:
    """Options of a canvas hold for what it sends at once: the first part of a line."""
    chosen = {k: v for k, v in options.items() if k not in PLACE and k not in ("link", "link_error") and v is not None}
    if not chosen:
        return node
    if isinstance(node, Line):
        return Line((_under(node.parts[0], chosen), *node.parts[1:])) if node.parts else node
    if isinstance(node, Parallel):
        return Parallel(tuple(_under(part, chosen) for part in node.parts))
    return replace(node, options={**node.options, **chosen})


def _taking(node: Node, args: tuple[Any, ...]) -> Node:
    """Arguments that the canvas itself was given: for what it begins with."""
    if not args:
        return node
    if isinstance(node, Line):
        return Line((_taking(node.parts[0], args), *node.parts[1:])) if node.parts else node
    if isinstance(node, Parallel):
        return Parallel(tuple(_taking(part, args) for part in node.parts))
    return node if node.immutable else replace(node, args=(*args, *node.args))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


# -- a canvas as a flow


def canvas_handler(canvas: Any, name: str) -> Callable[[Any], Any]:
    """The handler of a flow that runs a canvas, or what a function makes of the event's data, once for each run.

    Raises DeclarationError for what is neither.
    """
    if isinstance(canvas, Mapping):
        try:
            read_canvas(canvas, None)
        except (TypeError, KeyError) as error:
            raise DeclarationError(f"flow {name!r}: from_canvas cannot read {canvas!r:.80}: {error}") from None
        return lambda ctx: ctx.step._canvas(canvas)
    if isinstance(canvas, Task) or not callable(canvas):
        raise DeclarationError(
            f"flow {name!r}: from_canvas takes a signature, chain, group or chord, or a function of the event's data "
            f"that makes one; got {canvas!r:.80}"
        )

    def build(data: Any) -> Any:
        built = canvas(data)
        if not isinstance(built, Mapping):
            raise TypeError(f"the function of flow {name!r} made {built!r:.80}, and no canvas")
        return json.loads(json.dumps(built))

    def handler(ctx: Any) -> Any:
        return ctx.step._canvas(ctx.step.run(BUILD, build, ctx.event.data))

    handler.__doc__ = canvas.__doc__
    return handler
