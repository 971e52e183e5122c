"""`make simulate`: many worlds by hand, in portions of one seed each, on all cores.

What a run before had passed with the same code is not played again: it may be stopped and goes on where it was."""

import argparse
import hashlib
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tests.simulation.portions import play

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Play what is left of the portions; 1 when a world broke a law."""
    asked = _arguments()
    passed = _Passed(asked.kept)
    seeds = range(asked.first, asked.first + -(-asked.worlds // asked.portion))
    left = [seed for seed in seeds if seed not in passed.seeds]
    say(f"seeds {seeds[0]} to {seeds[-1]}, {asked.portion} worlds each: {len(seeds) - len(left)} were passed before")
    began, failed = time.monotonic(), 0
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        portions = [pool.submit(play, seed, asked.portion) for seed in left]
        for done, portion in enumerate(as_completed(portions), 1):
            seed, broken = portion.result()
            if broken:
                failed += 1
                say(
                    f"seed {seed} FAILED; again: FLOWS_SEED={seed} FLOWS_WORLDS={asked.portion} make simulate\n{broken}"
                )
            else:
                passed.add(seed)
            to_go = (time.monotonic() - began) / done * (len(left) - done)
            say(f"seed {seed}: {done} of {len(left)} portions played, {failed} failed, {to_go:.0f} s to go")
    say(f"{len(left)} portions of {asked.portion} worlds played, {failed} failed")
    return 1 if failed else 0


def say(line: str) -> None:
    """At once, also into a file."""
    print(line, flush=True)


class _Passed:
    """The seeds that were passed with the code as it is, one a line in a file beside it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._path = folder / _code()
        self.seeds = {int(line) for line in self._path.read_text().split()} if self._path.exists() else set()

    def add(self, seed: int) -> None:
        with self._path.open("a") as file:
            file.write(f"{seed}\n")


def _code() -> str:
    """What engine and simulation are: another letter, another name."""
    digest = hashlib.sha256()
    for folder in ("celeryflows", "tests/simulation"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("tests.simulation", description=__doc__)
    parser.add_argument("--first", type=int, default=int(os.environ.get("FLOWS_SEED", "1")), help="the first seed")
    parser.add_argument("--worlds", type=int, default=int(os.environ.get("FLOWS_WORLDS", "100000")))
    parser.add_argument("--portion", type=int, default=1000, help="worlds of one seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--kept", type=Path, default=ROOT / ".simulated", help="the folder of what was passed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
