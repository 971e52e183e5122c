"""What an event does to runs that are there: it answers what they wait for, or cancels them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from celeryflows.engine.admission import Admitted
from celeryflows.engine.endings import Cancelled, cancel_within
from celeryflows.engine.matching import Verdict, judged
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.units import lock_units, queue_units
from celeryflows.model.events import StoredEvent
from celeryflows.model.runs import Delivery, NewRun, Status
from celeryflows.model.waits import OpenWait, match_piece
from celeryflows.store.branches import Unit
from celeryflows.store.connection import Connection


@dataclass(slots=True)
class Routed:
    """What a routing left to do after its commit: messages to send, skips and cancels to tell, wide fan-outs to go on
    with. `own` is why the run that sends is cancelled, once its step is recorded."""

    deliveries: list[Delivery] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    cancelled: list[Cancelled] = field(default_factory=list)
    pieces: dict[str, str] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)
    events: list[StoredEvent] = field(default_factory=list)
    runs: list[NewRun] = field(default_factory=list)
    admitted: list[Admitted] = field(default_factory=list)

    def started(self, events: Iterable[StoredEvent], admitted: Admitted) -> None:
        """These runs were written, for these events."""
        self.events += events
        self.runs += admitted.runs
        self.admitted.append(admitted)
        for run in admitted.runs:
            if run.may_start:
                self.deliveries.append(run.delivery)
            elif run.status is Status.SKIPPED:
                self.skipped[run.id] = run.reason or "skipped"

    def ended(self, cancelled: Sequence[Cancelled]) -> None:
        """These runs were cancelled: nothing is sent to them."""
        gone = {one.run_id for one in cancelled}
        self.deliveries = [one for one in self.deliveries if one.run_id not in gone]
        self.cancelled += cancelled


def answer(
    runtime: Runtime, tx: Connection, verdicts: Sequence[Verdict], routed: Routed, sender: Unit | None = None
) -> None:
    """One event answers every wait that matches; of several events the first to match consumes a wait, or cancels."""
    units = {(one.wait.run_id, one.wait.branch) for one in verdicts if one.answers}
    ends = _ends(verdicts)
    if units:
        lock_units(tx, units | ({sender} if sender else set()), whole=ends)
    if ends:
        tx.cancels.lock_waits(sorted({one.wait.id for one in verdicts}), sorted(ends))
    woken: set[Unit] = set()
    # By wait, as everybody who holds waits; for each wait the events keep their order.
    for one in sorted(verdicts, key=lambda one: one.wait.id):
        if one.problem:
            tx.waits.note_problem(one.wait.id, one.problem)
        if not one.answers or (one.wait.cancels and one is not ends[one.wait.run_id]):
            continue
        if (run := tx.waits.answer(one.wait.id, one.event.id)) is not None and not one.wait.cancels:
            woken.add((run, one.wait.branch))
    if ends:
        reasons = {run: _reason(one.event) for run, one in ends.items()}
        routed.own = {run: reasons.pop(run) for run in list(reasons) if sender and run == sender[0]}
        routed.ended(_cancel_lines(runtime, tx, reasons))
    if woken:
        routed.deliveries += queue_units(tx, woken)


def _cancel_lines(runtime: Runtime, tx: Connection, reasons: dict[str, str]) -> list[Cancelled]:
    """One that went on as another run, just before its row was ours, is cancelled as that."""
    found = cancel_within(runtime, tx, reasons)
    left = reasons.keys() - {one.run_id for one in found}
    lasts = {last: reasons[run] for run in sorted(left) if (last := tx.links.last_of(run)) not in (None, run)}
    if lasts:
        lock_units(tx, [(last, "") for last in lasts], whole=lasts)
        found += cancel_within(runtime, tx, lasts)
    return found


def cancel_sender(runtime: Runtime, tx: Connection, routed: Routed) -> None:
    """The run that sends is cancelled by its own event: its row is locked."""
    if routed.own:
        routed.ended(cancel_within(runtime, tx, routed.own))


def _ends(verdicts: Sequence[Verdict]) -> dict[str, Verdict]:
    """By run: the first event that cancels it."""
    ends: dict[str, Verdict] = {}
    for one in verdicts:
        if one.answers and one.wait.cancels:
            ends.setdefault(one.wait.run_id, one)
    return ends


def _reason(event: StoredEvent) -> str:
    return f"cancelled by event {event.name} ({event.ext_id or event.id})"


def later_in_list(events: Sequence[StoredEvent], cancels: Sequence[OpenWait]) -> list[Verdict]:
    """Of events that are sent together the later ones may cancel what the earlier ones start."""
    place = {event.id: i for i, event in enumerate(events)}
    return [
        verdict
        for i, event in enumerate(events)
        for verdict in judged(event, [w for w in cancels if w.name == event.name and place[w.trigger_id or ""] < i])
    ]


def sent_before(
    runtime: Runtime, tx: Connection, trigger: StoredEvent, cancels: Sequence[OpenWait]
) -> Iterator[Verdict]:
    """What cancels the runs of an event that is routed late, and came before they did: the first of each wait."""
    most = runtime.settings.lookback_candidates
    for wait in cancels:
        after = (0, "")
        while True:
            found = tx.cancels.sent_since(
                trigger.id, wait.name, after=after, holding=match_piece(wait.value), limit=most
            )
            verdicts = [verdict for event, _ in found for verdict in judged(event, [wait])]
            first = next((i for i, one in enumerate(verdicts) if one.answers), None)
            yield from verdicts if first is None else verdicts[: first + 1]
            if first is not None or len(found) < most:
                break
            after = (found[-1][1], found[-1][0].id)
