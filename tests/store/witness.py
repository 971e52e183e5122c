"""A witness outside the database: so many places in a file, each held by a lock that dies with its process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Witness:
    """Counts who is inside, over processes of one thread each; whom it has no place for is noted as over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, int] = {}

    @contextmanager
    def inside(self, name: str, limit: int) -> Iterator[None]:
        """One more is inside."""
        # Kept open: closing a file gives up all locks of the process in it.
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = os.open(self.folder / name, os.O_RDWR | os.O_CREAT)
        place = self._take(file, limit)
        if place is None:
            with (self.folder / "over").open("a") as over:
                over.write(f"{name}\n")
        try:
            yield
        finally:
            if place is not None:
                fcntl.lockf(file, fcntl.LOCK_UN, 1, place)

    def _take(self, file: int, limit: int) -> int | None:
        for place in range(limit):
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except OSError:
                continue
            return place
        return None

    def over(self) -> list[str]:
        """For whom there was no place."""
        noted = self.folder / "over"
        return noted.read_text().split() if noted.exists() else []
