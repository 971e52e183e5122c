"""What the findings say: every figure with its spread and its settings, and the ratios that are wanted."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from benchmarks.bench import Side, compared, figure
from benchmarks.peers.compare import KINDS, Findings
from benchmarks.peers.roster import PEERS
from benchmarks.table import Bound, Lines, Row, columns

# A peer of several settings is compared by the best of its figures.
RIVALS = {
    "postgresql": (
        ("celery",),
        ("bare",),
        ("dbos", "dbos-quick", "dbos-direct"),
        ("absurd", "absurd-quick"),
        ("restate",),
    ),
    "postgresql-4": (("celery-4",),),
    "postgresql-8": (("dbos", "dbos-quick", "dbos-direct"), ("absurd", "absurd-quick"), ("restate",)),
    "mariadb": (("celery",),),
    "sqlite": (("celery",), ("bare-sqlite",), ("dbos-sqlite",)),
}
WANTED = {
    ("one", "postgresql", "celery"): Bound(0.6),
    ("one", "sqlite", "celery"): Bound(0.75),
    ("ten", "postgresql", "celery"): Bound(5),
    ("ten", "sqlite", "celery"): Bound(8),
    ("ten", "postgresql", "dbos"): Bound(5),
    ("ten", "postgresql", "absurd"): Bound(2),
    ("flight", "postgresql", "restate"): Bound(1.1),
    ("flight", "postgresql-8", "restate"): Bound(1.1),
    # Of n + 2 commits for n steps.
    ("ten", "postgresql", "bare"): Bound(0.5),
    ("parallel", "postgresql", "celery"): Bound(2),
    ("parallel", "sqlite", "celery"): Bound(2),
    ("start", "postgresql", "celery"): Bound(1.3, at_most=True),
    ("start", "sqlite", "celery"): Bound(1.3, at_most=True),
}


def rows(findings: Findings) -> list[Row]:
    """Ours beside each peer, wherever both have a figure, and wherever something is wanted of a peer that has none."""
    return [row for kind in KINDS for ours in RIVALS for row in _beside(findings, kind, ours)]


def _beside(findings: Findings, kind: str, ours: str) -> Iterator[Row]:
    mine = findings.side(kind, ours)
    if mine is None:
        return
    for rivals in RIVALS[ours]:
        bound = WANTED.get((kind, ours, rivals[0]))
        theirs = _best(findings, kind, rivals)
        title = f"{KINDS[kind].title}, {PEERS[ours].name.removeprefix('celeryflows, ')}"
        if theirs is not None:
            yield compared(title, mine, theirs, bound, KINDS[kind].unit)
        elif bound is not None and any(rival in findings.reasons for rival in rivals):
            unit = KINDS[kind].unit
            yield Row(title, f"{figure(mine.median)} {unit}", f"{PEERS[rivals[0]].name}: missing", None, bound)


def _best(findings: Findings, kind: str, rivals: Sequence[str]) -> Side | None:
    sides = [side for rival in rivals if (side := findings.side(kind, rival)) is not None]
    if not sides:
        return None
    return (max if KINDS[kind].is_rate else min)(sides, key=lambda side: side.median)


def details(findings: Findings, names: Sequence[str], shown: Callable[[Lines], str] = columns) -> str:
    """Every figure with its spread, then who they are and what they could not do."""
    lines = [("figure", "who", "median", "least", "most", "CPU of a unit")]
    for kind in KINDS:
        for name in names:
            side = findings.side(kind, name)
            if side is not None:
                lines.append(_detail(findings, kind, name, side))
    parts = [shown(lines), ""]
    parts += [f"{PEERS[name].name} ({found}): {PEERS[name].settings}" for name, found in findings.versions.items()]
    parts += [f"MISSING {PEERS[name].name}: {reason}" for name, reason in findings.reasons.items()]
    return "\n".join(parts)


def _detail(findings: Findings, kind: str, name: str, side: Side) -> tuple[str, ...]:
    spent = findings.cpu.get((kind, name))
    spread = [f"{figure:,.1f}" for figure in (side.median, min(side.figures), max(side.figures))]
    unit = KINDS[kind].unit
    return (
        f"{KINDS[kind].title} {unit}",
        side.name,
        *spread,
        f"{median(spent):.1f} ms" if spent and KINDS[kind].is_rate else "",
    )
