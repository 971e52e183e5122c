"""Adds this version's runs to the corpus, before a release: `./dev shell -m tests.corpus`."""

import json
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from celeryflows.console.history import export
from tests.corpus import FOLDER
from tests.corpus.played import begin, declare, ends, go_on
from tests.engine.world import World

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """The store as it stands while all are open, their histories then and at the end, and how they ended."""
    file = FOLDER / version("celeryflows")
    if Path(f"{file}.sql").exists():
        sys.exit(f"The runs of {file.name} are stored already: what was released does not change.")
    world = World()
    declare(world)
    world.start_worker()
    begin(world)
    _write(f"{file}.open.jsonl", export(world.runtime))
    raw = world.store.engine.raw_connection()
    _write(f"{file}.sql", raw.driver_connection.iterdump())  # type: ignore[union-attr]
    raw.close()
    at = world.clock.now()
    go_on(world)
    _write(f"{file}.ended.jsonl", export(world.runtime))
    _write(f"{file}.json", [json.dumps({"at": at, "ends": ends(world)}, indent=1)])
    world.close()


def _write(path: str, lines: Iterable[str]) -> None:
    """Errors tell where their code was."""
    Path(path).write_text("".join(f"{line}\n" for line in lines).replace(str(ROOT), "/srv/shop"), encoding="utf-8")


if __name__ == "__main__":
    main()
