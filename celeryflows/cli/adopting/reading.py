"""All that an app would gain, in the order of its files."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from celeryflows.cli.adopting.calls import Calls
from celeryflows.cli.adopting.canvases import canvas_gains
from celeryflows.cli.adopting.gains import Gain
from celeryflows.cli.adopting.options import class_gains, option_gains
from celeryflows.cli.adopting.schedule import beat_gains
from celeryflows.cli.adopting.sources import Source, code_of, project_sources
from celeryflows.cli.adopting.written_tasks import written_tasks


def gains_of(app: Any, named: Iterable[Path] = ()) -> tuple[list[Gain], list[str]]:
    """Read the app's tasks, schedule and source; the gains, and the files that could not be read.

    Tasks that are flows, limited or durable have gained already.
    """
    sources, unread = project_sources(app, named)
    binding = getattr(app, "flows_binding", None)
    gained = {name for name in app.tasks if binding is not None and binding.makes_runs(name)}
    written = written_tasks(app, sources)
    tasks = [one for one in written if one.name not in gained]
    calls = Calls(tasks, gained)
    found = [gain for one in tasks for gain in option_gains(one)]
    found += _of_classes(app, sources, gained | {one.name for one in written})
    found += [gain for source in sources for gain in (*calls.gains(source), *canvas_gains(source))]
    found += beat_gains(app, sources)
    return sorted(found, key=lambda gain: (gain.file, gain.line, gain.kind)), unread


def _of_classes(app: Any, sources: Sequence[Source], known: set[str]) -> Iterator[Gain]:
    by_path = {str(source.path): source for source in sources}
    for name, task in app.tasks.items():
        code = code_of(task)
        if name not in known and code is not None and code.co_filename in by_path:
            yield from class_gains(task, by_path[code.co_filename], code.co_firstlineno)
