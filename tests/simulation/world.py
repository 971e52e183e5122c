"""The world of a simulation: two workers, a client, a broker and a store, moved on by one action at a time.

Whatever is random comes in from outside; the same programs and actions give the same world."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from celeryflows import Event, ids
from celeryflows.clock import TurnedClock
from celeryflows.durations import SECOND
from celeryflows.engine.finish import cancel
from celeryflows.engine.remote_tasks import answer
from tests.engine.world import NEW_YEAR
from tests.simulation.activity import Faults
from tests.simulation.broker import SimulatedBroker
from tests.simulation.elsewhere import worked_on
from tests.simulation.gates import Doorman
from tests.simulation.kinds import Crowds
from tests.simulation.ledger import Ledger
from tests.simulation.player import flow_name
from tests.simulation.process import Process, trigger_name
from tests.simulation.programs import Program
from tests.simulation.stores import new_store

Verb = Literal[
    "start",
    "deliver",
    "work",
    "tick",
    "advance",
    "silence",
    "send",
    "resume",
    "lose",
    "double",
    "flush",
    "kill",
    "cancel",
    "signal",
    "restart",
    "deploy",
]
STEPS_OF_TIME = (1, 2, 6, 21, 45, 400)
RECORDED = "SELECT run_id, key, state, value FROM flows_steps WHERE state IN ('done', 'failed')"
LISTENING = "SELECT id FROM flows_waits WHERE kind = 'signal' AND name = :name AND state = 'open' AND due_at > :now"
CROWDED = "SELECT name FROM flows_waits WHERE kind = 'signal' AND state = 'open' GROUP BY name HAVING count(*) > 1"
ENDED = "SELECT id, 'run', status, output FROM flows_runs WHERE ended_at IS NOT NULL"
ASLEEP = """
SELECT r.id, w.key FROM flows_runs r JOIN flows_waits w ON w.run_id = r.id AND w.branch = ''
WHERE r.status = 'suspended' AND w.state = 'answered' AND (w.kind <> 'task' OR w.path = '')
UNION ALL SELECT b.run_id, w.key FROM flows_branches b JOIN flows_waits w ON w.run_id = b.run_id AND w.branch = b.path
WHERE b.status = 'suspended' AND w.state = 'answered' AND (w.kind <> 'task' OR w.path = '')
"""
GOING_ON = """
WITH RECURSIVE line AS (
  SELECT id, status, continued_as FROM flows_runs WHERE id = :run
  UNION ALL SELECT r.id, r.status, r.continued_as FROM line JOIN flows_runs r ON r.id = line.continued_as)
SELECT id FROM line WHERE status IN ('scheduled', 'queued', 'running', 'suspended')
"""
# Of a crowd that a throttle lets in two by two each run sleeps at moments of its own: 315 were seen.
ROUNDS = 1_000
# What leaves something to recovery. When nothing does any more, all is put right after so long.
TROUBLE = frozenset({"silence", "kill", "restart", "deploy", "flush", "lose"})
AUDITED = 45 * SECOND
# So many rounds another leader takes to be there.
SETTLING = 5
WORKERS = 2


@dataclass(frozen=True)
class Action:
    """One thing that happens. `pick` chooses among what is there, `faults` strike in it."""

    verb: Verb
    pick: int = 0
    faults: Faults = ()


class World:
    """A world with its programs; flow number i plays program i and is started once by the event `start/i`."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self.programs = programs
        self.clock = TurnedClock(NEW_YEAR)
        self.broker = SimulatedBroker()
        self.ledger = Ledger()
        self.store = new_store(self.clock)
        self.kills = 0
        self.cancelled: set[str] = set()
        # From when on nothing dies and nothing is lost.
        self.fair_since: int | None = None
        self.release = 0
        self.roots = [i for i, program in enumerate(programs) if not program.is_child]
        self._is_linked = len(self.roots) < len(programs)
        is_limited = any(program.limits or program.admits for program in programs)
        self._doorman = Doorman(self.store) if is_limited else None
        self._had_trouble = False
        # From when on time has passed without a leap, after which nobody is declared dead for a while.
        self._steady_since: int | None = None
        self._crowded = [i for i in self.roots if programs[i].admits is not None]
        ordered = frozenset(flow_name(i) for i in self._crowded if programs[i].admits == "priority")
        self.crowds = Crowds(self.store, ordered)
        self._ids: list[str] = []
        self._started: set[int] = set()
        self._uncertain: set[int] = set()
        self._sent = 0
        self._made = 0
        self._all: list[Process] = []
        self._ulids = ids._ulids
        # Ids without chance: far in the future they only count on.
        ids._ulids = ids._Ulids((1 << 47) << ids._RANDOM_BITS)
        self.client = self._process("client")
        self.workers = [self._worker() for _ in range(WORKERS)]

    def close(self) -> None:
        """End what was stopped, and the store."""
        for process in self._all:
            process.die()
        self.store.dispose()
        ids._ulids = self._ulids

    def look(self, sql: str, **params: Any) -> list[tuple[Any, ...]]:
        """Read the store, seen by nobody."""
        with self.store.unlinked() as connection:
            return connection.execute(sql, **params)

    # -- actions

    def act(self, action: Action) -> None:
        """Let one thing happen."""
        getattr(self, f"_{action.verb}")(action.pick, action.faults)
        harms = action.verb in TROUBLE or any(fault.kind != "stop" for fault in action.faults)
        self._had_trouble = self._had_trouble or harms
        self._bury()
        self.ledger.remember(self.look(RECORDED), self.look(ENDED))
        self.ledger.check_sleepers(self.look(ASLEEP))
        if self._is_linked and (crowded := self.look(CROWDED)):
            raise AssertionError(f"more than one wait for {crowded}")
        self._look_at_limits()

    def _look_at_limits(self) -> None:
        if self._doorman is not None:
            steady_for = -1 if self._steady_since is None else self.clock.now() - self._steady_since
            is_calm = not self._had_trouble and not any(process.stopped for process in self._living())
            wrong = self._doorman.look()
            if is_calm or steady_for > AUDITED:
                wrong = wrong or self._doorman.left_behind()
            if steady_for > AUDITED:
                wrong = wrong or self._doorman.idle()
            if wrong:
                raise AssertionError(wrong)
        if self._crowded and (wrong := self.crowds.look(self.clock.now())):
            raise AssertionError(wrong)

    def _start(self, pick: int, faults: Faults) -> None:
        number = self.roots[pick % len(self.roots)]
        if number in self._crowded:
            self._start_another(number, pick // len(self.roots), faults)
            return
        if number in self._started:
            return
        # Who may die while it sends has to be able to send again.
        if any(fault.kind != "outage" for fault in faults):
            self._uncertain.add(number)
        id = f"go {number}" if number in self._uncertain else None
        if self._send_as_client(trigger_name(number), number, id, faults):
            self._started.add(number)

    def _start_another(self, number: int, pick: int, faults: Faults) -> None:
        """One more event, or several in one list."""
        count = 3 + pick % 4 if self.programs[number].bundled else 1
        events = [self._another(number, pick if i == 0 else 0) for i in range(count)]
        if self.client.send_events([event for _, event in events], faults):
            for root, event in events:
                self.crowds.accepted[root].add(event.id or "")

    def _another(self, number: int, pick: int) -> tuple[int, Event]:
        """An event of its own id, or now and then of one that was sent before."""
        self._sent += 1
        again = pick % 5 == 4 and bool(self._ids)
        if not again:
            self._ids.append(f"{number} {self._sent}")
        id = self._ids[self._sent % len(self._ids)] if again else self._ids[-1]
        number = int(id.split()[0])
        data = {
            "of": number,
            "n": self._sent,
            "by": "client",
            "k": int(int(id.split()[1]) % 3 == 0),
            "p": self._sent % 3 * 20,
        }
        return number, Event(trigger_name(number), data, id=id)

    def _send(self, pick: int, faults: Faults) -> None:
        self._sent += 1
        self._send_as_client(f"news/{pick % 2}", self.roots[pick // 2 % len(self.roots)], None, faults)

    def _send_as_client(self, name: str, of: int, id: str | None, faults: Faults) -> bool:
        event = Event(name, {"of": of, "n": self._sent, "by": "client"}, id=id)
        return self.client.send_events([event], faults)

    def _deliver(self, pick: int, faults: Faults) -> None:
        message = self.broker.take(pick // WORKERS)
        if message is not None:
            self.workers[pick % WORKERS].take(message, faults)

    def _work(self, pick: int, faults: Faults) -> None:
        """A task of elsewhere is done. Its answer is given by any process, which may die of it; odd ones are kept in a
        result backend too."""
        task = self.broker.take_task(pick // WORKERS)
        if task is not None:
            outcome = worked_on(task, self.ledger)
            if pick % 2:
                self.broker.results[task.id] = outcome
            worker = self.workers[pick % WORKERS]
            worker.do(lambda: answer(worker.runtime, task.id, outcome), faults)

    def _tick(self, pick: int, faults: Faults) -> None:
        worker = self.workers[pick % WORKERS]
        worker.tick(faults)

    def _advance(self, pick: int, faults: Faults) -> None:
        self.clock.turn(STEPS_OF_TIME[pick % len(STEPS_OF_TIME)] * SECOND)

    def _silence(self, pick: int, faults: Faults) -> None:
        """A worker is not heard of for so long that the others take over what it holds."""
        for _ in range(4):
            self.clock.turn(7 * SECOND)
            for i, worker in enumerate(self.workers):
                if i != pick % WORKERS:
                    worker.tick()

    def _resume(self, pick: int, faults: Faults) -> None:
        stopped = [(process, one) for process in self._living() for one in process.stopped]
        if stopped:
            process, activity = stopped[pick % len(stopped)]
            process.resume(activity, faults)

    def _lose(self, pick: int, faults: Faults) -> None:
        self.broker.take(pick)
        self.broker.take_task(pick)

    def _double(self, pick: int, faults: Faults) -> None:
        self.broker.double(pick)

    def _flush(self, pick: int, faults: Faults) -> None:
        self.broker.flush()

    def _kill(self, pick: int, faults: Faults) -> None:
        self._living()[pick % (WORKERS + 1)].is_dead = True

    def _restart(self, pick: int, faults: Faults) -> None:
        worker = self.workers[pick % WORKERS]
        if not worker.stopped:
            # Politely: what it ran is handed back at once.
            worker.do(worker.scheduler.stop, faults)
            worker.is_dead = True

    def _deploy(self, pick: int, faults: Faults) -> None:
        """A worker comes back with other limits; who works on has the old ones until it comes back too."""
        self.release = pick // WORKERS
        self._restart(pick, faults)

    def _cancel(self, pick: int, faults: Faults) -> None:
        rows = self.look("SELECT id FROM flows_runs ORDER BY id")
        if rows:
            run = rows[pick % len(rows)][0]
            self.cancelled.add(run)
            done: list[bool] = []
            self.client.do(lambda: done.append(cancel(self.client.runtime, run, "by hand")), faults)
            if done and (going := self.look(GOING_ON, run=run)):
                raise AssertionError(f"{run} was cancelled, and {going} goes on")

    def _signal(self, pick: int, faults: Faults) -> None:
        """To who waits, as long as anybody does."""
        open_ones = self.look("SELECT name FROM flows_waits WHERE kind = 'signal' AND state = 'open' ORDER BY id")
        name, client = open_ones[pick % len(open_ones)][0] if open_ones else f"sig/{pick % 2}", self.client
        before = self.look(LISTENING, name=name, now=self.clock.now())
        client.do(lambda: client.signal(name), faults)
        after = self.look(LISTENING, name=name, now=self.clock.now())
        told = self.ledger.signals[-1].told if self.ledger.signals else []
        if told == [None] and (missed := set(before) & set(after)):
            raise AssertionError(f"{missed} wait for {name}, and a signal was told that nobody does")

    # -- the fair end

    def settle(self) -> None:
        """No more faults: everything that is left is delivered, resumed and awaited until nothing is under way.

        Raises AssertionError when that takes too long.
        """
        self.fair_since = self._steady_since = self.clock.now()
        for done in range(ROUNDS):
            self._fair_round()
            self._look_at_limits()
            if self._is_over():
                return
            self._pass_time(slowly=self._is_linked and done < SETTLING)
        raise AssertionError(f"no end after {ROUNDS} rounds: {self.look('SELECT id, status, wake_at FROM flows_runs')}")

    def _fair_round(self) -> None:
        for process in self._living():
            for activity in list(process.stopped):
                process.resume(activity)
        for number, root in enumerate(self.roots):
            if root not in self._crowded:
                self._start(number, ())
        leaders = [worker for worker in self.workers if worker.scheduler.leads]
        for worker in self.workers:
            worker.tick()
        # Who leads has just let in whom changed limits have room for; who did before may have looked a moment ago.
        is_first = self.clock.now() - (self.fair_since or 0) < SECOND
        is_led = any(worker.scheduler.leads and not (is_first and worker in leaders) for worker in self.workers)
        if self._doorman is not None and is_led and (idle := self._doorman.idle()):
            raise AssertionError(idle)
        while (message := self.broker.take(0)) is not None:
            self.workers[len(self.broker.messages) % WORKERS].take(message)
        while self.broker.tasks:
            self._work(len(self.broker.tasks), ())

    def _is_over(self) -> bool:
        (left,) = self.look(
            "SELECT (SELECT count(*) FROM flows_runs WHERE ended_at IS NULL OR owes IS NOT NULL), "
            "(SELECT count(*) FROM flows_events WHERE arrived_at IS NULL OR piece IS NOT NULL), "
            "(SELECT count(*) FROM flows_tasks WHERE next_at IS NOT NULL), "
            "(SELECT count(*) FROM flows_slots WHERE run_id IS NOT NULL)"
        )
        return not any(left) and len(self._started) + len(self._crowded) == len(self.roots)

    def _pass_time(self, *, slowly: bool) -> None:
        ((awake, due),) = self.look(
            "SELECT (SELECT count(*) FROM units WHERE status IN ('queued', 'running')) + "
            "(SELECT count(*) FROM flows_runs WHERE owes IS NOT NULL), "
            "(SELECT min(wake_at) FROM (SELECT wake_at FROM units UNION ALL SELECT finish_by FROM flows_runs "
            "WHERE ended_at IS NULL))".replace(
                "units", "(SELECT status, wake_at FROM flows_runs UNION ALL SELECT status, wake_at FROM flows_branches)"
            )
        )
        soon = self.clock.now() + 3 * SECOND
        until = soon if slowly or awake or due is None else max(due, soon)
        if until > soon:
            self._steady_since = until
        self.clock.set(until)

    # -- processes

    def _living(self) -> list[Process]:
        return [self.client, *self.workers]

    def _process(self, kind: str) -> Process:
        self._made += 1
        name = f"{kind} {self._made}"
        process = Process(name, self.programs, self.clock, self.broker, self.ledger, self.store, self.release)
        self._all.append(process)
        return process

    def _worker(self) -> Process:
        worker = self._process("worker")
        worker.scheduler.start()
        return worker

    def _bury(self) -> None:
        """Unwind what died, and put a new process in its place."""
        if self.client.is_dead:
            self.kills += 1
            self.client.bury()
            self.client = self._process("client")
        for i, worker in enumerate(self.workers):
            if worker.is_dead:
                self.kills += 1
                self.workers[i] = self._worker()
            worker.bury()
