"""What processes cost, by /proc: CPU and memory of those that were started, and of those that they started."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path


def cpu(roots: Iterable[int]) -> float:
    """Seconds of CPU of processes and all below them, also of those that have ended."""
    return sum(_cpu_of(pid) for pid in below(roots))


def memory(roots: Iterable[int]) -> float:
    """MiB of processes and all below them, pages that several share counted once."""
    return sum(_proportional(pid) for pid in below(roots)) / 1024


def below(roots: Iterable[int]) -> set[int]:
    """Processes, and all that descend from them."""
    children: dict[int, list[int]] = defaultdict(list)
    for pid, parent in _processes():
        children[parent].append(pid)
    found: set[int] = set()
    left = list(roots)
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children[pid]
    return found


def _processes() -> Iterator[tuple[int, int]]:
    """Every process and its parent."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            yield int(folder.name), int(fields[1])


def _stat(pid: int) -> list[str]:
    """The fields behind the name, which may hold anything; none when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_of(pid: int) -> float:
    """Its own, and that of its children that it has waited for."""
    return sum(int(ticks) for ticks in _stat(pid)[11:15]) / os.sysconf("SC_CLK_TCK")


def _proportional(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.split()[1]) for line in lines if line.startswith("Pss:"))
