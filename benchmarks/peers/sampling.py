"""Which room of the code a process spends its CPU in: its stack is looked at after every few milliseconds of CPU.

A signal writes down what was found since the last one, so that booting counts for nothing."""

import json
import linecache
import os
import signal
import time
from collections import Counter
from pathlib import Path
from types import FrameType

# From the innermost frame outwards the first that lies in a room counts: what a room calls in Python's own library is
# the room's. The order matters: a file is in the first room that it fits.
ROOMS = {
    "driver": ("/psycopg/", "/pymysql/", "/celeryflows/store/prepared.py"),
    "SQLAlchemy": ("/sqlalchemy/",),
    "Celery": ("/celery/", "/kombu/", "/billiard/", "/vine/", "/redis/", "/amqp/"),
    "celeryflows": ("/celeryflows/",),
    "handler": ("/benchmarks/",),
}
# Lines of ours that hand over to a driver written in C, which has no frames of its own.
HANDED_OVER = ("cursor.fetchall", "getattr(cursor", "dialect.command", "cursor.execute")
EVERY = 0.001


def room_of(frame: FrameType | None) -> str:
    """The room of a stack."""
    innermost = True
    while frame is not None:
        path = frame.f_code.co_filename
        for room, places in ROOMS.items():
            if any(place in path for place in places):
                line = linecache.getline(path, frame.f_lineno or 0) if innermost and room == "celeryflows" else ""
                return "driver" if any(word in line for word in HANDED_OVER) else room
        innermost = False
        frame = frame.f_back
    return "Python"


class Sampler:
    """Counts of one process, written into the folder whenever SIGUSR2 comes."""

    def __init__(self, folder: Path, role: str) -> None:
        self._path = folder / f"{os.getpid()}.json"
        self._role = role
        self._found: Counter[str] = Counter()
        self._began, self._main_began = time.process_time(), time.thread_time()
        signal.signal(signal.SIGPROF, self._look)
        signal.signal(signal.SIGUSR2, self.write)
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
        self.write()

    def _look(self, _: int, frame: FrameType | None) -> None:
        self._found[room_of(frame)] += 1

    def write(self, *_: object) -> None:
        """Write down what was found, and begin anew."""
        # Signals are handled by the main thread: its own CPU is what was sampled, the rest is that of other threads.
        spent, main = time.process_time() - self._began, time.thread_time() - self._main_began
        self._began, self._main_began = time.process_time(), time.thread_time()
        text = json.dumps({"role": self._role, "main": main, "others": spent - main, "found": self._found})
        self._path.with_suffix(".new").write_text(text)
        self._path.with_suffix(".new").rename(self._path)
        self._found.clear()


def sample(role: str) -> None:
    """Sample this process from now on, when somebody wants to know."""
    if folder := os.environ.get("BENCH_SAMPLES"):
        Sampler(Path(folder), role)
