"""The master's loop: waits on descriptors and the next deadline, hands facts to the supervisor, has its steps done.

One turn: read every descriptor that is ready, reap every process that has ended, then let the supervisor judge the
time. In this order, because after the master itself was stopped for a while a `ready` may be waiting and heartbeats on
the board are current: no healthy worker may pay for a deadline that only the master missed. Nothing here waits for
anything but the selector.

Decisions are the supervisor's. What is done to a process is the crew's to do, and what a reload changes in the master
the transitions'.
"""

import os
import random
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from asgid import __version__, descriptors, wire
from asgid import board as cells
from asgid.assignment import WorkerMain
from asgid.config import Config
from asgid.errors import ExitCode
from asgid.master.reload import Transitions
from asgid.master.replace.handover import Handover
from asgid.master.replace.new_program import Command, NewProgram
from asgid.master.resources import Holdings
from asgid.master.status.collection import collect, status_line
from asgid.master.status.endpoint import Endpoint
from asgid.master.status.history import StatusHistory
from asgid.master.status.pages import Pages
from asgid.master.status.snapshot import Snapshot
from asgid.master.supervision import steps
from asgid.master.supervision.lifecycle import Plan, State
from asgid.master.supervision.recycling import Recycling
from asgid.master.supervision.supervisor import Supervisor
from asgid.master.system import terminal
from asgid.master.system.signals import Signals
from asgid.master.system.terminal import Terminal
from asgid.master.workers.ledger import Ledger
from asgid.master.workers.processes import Crew
from asgid.master.workers.spawn import Child, Death, is_any_dead, reap
from asgid.master.workers.usage import resident_bytes

#: epoll_wait(2) takes 2**31 milliseconds, 24.8 days, and Python raises OverflowError above that.
LONGEST_WAIT_S = 86400.0
#: TERM said again within this time is the same wish.
SAME_WISH_S = 0.1
#: So late the master is only where it was not let run, and then most likely nobody was: in a container that was paused,
#: a machine that was saved, or a job that a terminal has stopped. Without forgiveness all workers, healthy and in the
#: middle of requests, were aborted in the moment in which they went on.
STOOD_STILL_S = 1.0


class Loop:
    """The shell around the supervisor. `run` returns when every worker is gone after a stop, or when none could be
    started.
    """

    def __init__(
        self,
        held: Holdings,
        *,
        load: Callable[[], Config],
        worker: WorkerMain,
        program: Command,
        cpus: int,
        predecessor: Handover | None = None,
    ) -> None:
        """`predecessor` is what the program before this one has left, where this one has taken its place."""
        self._held = held
        self._log, self._listeners, self._notifier = held.log, held.listeners, held.notifier
        self._selector = selectors.EpollSelector()
        descriptors.note(self._selector.fileno())
        self._history = (
            predecessor.history if predecessor else StatusHistory(time.monotonic(), time.time(), time.time())
        )
        board, corrections = held.memory.board, self._history.corrections
        self._ledger = Ledger(board, corrections, time.monotonic_ns, self._on_impossible)
        self._endpoint = Endpoint(held.endpoint, self._selector, self._pages(), held.log) if held.endpoint else None
        self._supervisor = Supervisor.resume(predecessor.standing, time.monotonic()) if predecessor else Supervisor()
        self._crew = Crew(
            worker=worker,
            log=held.log,
            memory=held.memory,
            ledger=self._ledger,
            listeners=held.listeners,
            selector=self._selector,
            hear=self._hear,
            garbled=self._on_garbled,
        )
        self._new_program = NewProgram(program, self._selector, held.log)
        self._predecessor = predecessor
        self._agenda: deque[steps.Step] = deque()
        self._code: ExitCode | None = None
        self._transitions = Transitions(held, self._supervisor, self._history, load, cpus)
        self._recycling = Recycling()
        self._was_ready = predecessor is not None
        self._gives_way = False
        self._stopped_at = 0.0
        is_outlived = predecessor.outlives_terminal if predecessor else terminal.ignores_hangup()
        self._terminal = Terminal(self._selector, is_outlived=is_outlived)
        self._is_winch_explained = False
        self._failure = ""  # of the start
        self._stack = ""  # of the last worker whose end decided a start or a reload
        self._watchdog_at = 0.0 if held.notifier.watchdog_s else float("inf")
        self._signals = Signals(
            self._selector,
            {
                signal.SIGTERM: self._stop,
                signal.SIGQUIT: self._stop,
                signal.SIGINT: self._stop,
                signal.SIGHUP: self._hup,
                signal.SIGTTIN: self._more,
                signal.SIGTTOU: self._fewer,
                signal.SIGUSR1: self._reopen,
                signal.SIGUSR2: self._upgrade,
                signal.SIGWINCH: self._pause,
            },
        )
        # Any: each method takes the kind of step that it stands beside, which the type of a dict cannot say.
        self._on_step: dict[type, Callable[[Any], None]] = {
            steps.Spawn: self._spawn,
            steps.Drain: self._crew.drain,
            steps.Signal: self._crew.signal,
            steps.Dump: self._crew.dump,
            steps.TrySuccessor: self._try_successor,
            steps.EndTrial: self._new_program.signal_trial,
            steps.GiveWay: self._to_give_way,
            steps.Quit: self._quit,
            steps.Served: self._served,
            steps.Left: self._left,
            steps.Waiting: self._waiting,
            steps.Began: self._transitions.began,
            steps.Committed: self._transitions.committed,
            steps.RolledBack: self._rolled_back,
            steps.Superseded: self._transitions.superseded,
            steps.UpgradeRefused: self._new_program.log_refusal,
        }

    def run(self) -> ExitCode:
        """Start the workers, or take them over, and turn until the end."""
        self._signals.install()
        if self._predecessor:
            self._take_over(self._predecessor)
        else:
            timeouts = self._transitions.config.timeouts
            self._notifier.starting(timeouts.boot + timeouts.kill)
            self._begin(self._transitions.first())
        while self._code is None:
            self._turn()
            if self._gives_way:
                self._give_way()
        if self._endpoint:
            self._endpoint.close()
        self._terminal.close()
        self._selector.close()
        self._log.info("stopped", code=int(self._code))
        if self._code is ExitCode.NO_WORKER:  # last: a reader begins at the end
            stack = {"stack": self._stack} if self._stack else {}
            self._log.error("cannot start: no worker became ready", problem=self._failure, **stack)
        return self._code

    def _turn(self) -> None:
        due = self._supervisor.next_deadline()
        self._selector.select(self._patience())
        # What is judged is the time before the last look at the descriptors: whatever was said until then is read.
        # The wait alone would not do: after STOP and CONT it ends empty-handed (EINTR, past its timeout).
        now = time.monotonic()
        for key, mask in self._selector.select(0):
            key.data(mask)
        if is_any_dead():
            # A TERM to the whole process group reached this process before it ended a child: it is a stop, not a crash.
            self._signals.dispatch()
        for death in reap():
            self._on_death(death)
        if now - due > STOOD_STILL_S:
            self._log.warning("stood still", late_s=round(now - due, 1))
            self._supervisor.stood_still(now, now - due)
        self._do(self._supervisor.tick(now, self._ledger.beats(self._crew.children)))
        if now >= self._recycling.next_deadline():
            self._recycle(now)
        if self._endpoint:
            self._endpoint.expire(now)
        if now >= self._watchdog_at and self._notifier.watchdog_s:
            self._notifier.watchdog()
            self._watchdog_at = now + self._notifier.watchdog_s / 2

    def _patience(self) -> float | None:
        now = time.monotonic()
        endpoint_at = self._endpoint.next_deadline() if self._endpoint else None
        deadline = min(
            self._supervisor.next_deadline(),
            self._recycling.next_deadline(),
            endpoint_at or float("inf"),
            self._watchdog_at,
        )
        return None if deadline == float("inf") else min(max(0.0, deadline - now), LONGEST_WAIT_S)

    def _recycle(self, now: float) -> None:
        """Let one worker go that has served its time; the next has its turn when that one has been replaced."""
        supervisor = self._supervisor
        serving = [worker for worker in supervisor.live() if worker.state is State.SERVING]
        found = self._recycling.spent(
            now,
            [] if any(worker.is_retiring for worker in serving) else [worker.slot for worker in serving],
            lambda slot: self._ledger.counter(slot, cells.STARTED),
            lambda slot: resident_bytes(self._crew.children[slot].pid),
        )
        if found:
            slot, why = found
            self._crew.spent(slot, why)
            self._do(supervisor.recycle(slot, now))

    # Facts: signals

    def _stop(self, signum: signal.Signals) -> None:
        now = time.monotonic()
        if self._supervisor.is_stopping:
            # timeout(1) sends TERM to a process and then to its group: that is one wish, said twice.
            is_same_wish = signum is signal.SIGTERM and now - self._stopped_at < SAME_WISH_S
            if signum is not signal.SIGQUIT and not is_same_wish:
                self._log.warning("stopping at once", signal=signum.name)
                self._do(self._supervisor.stop_now(now))
            return
        self._stopped_at = now
        timeouts = self._transitions.config.timeouts
        within_s = timeouts.graceful + timeouts.kill
        again = "press Ctrl-C again" if terminal.has_terminal() else f"kill -INT {os.getpid()}"
        self._log.info("stopping", signal=signum.name, within_s=within_s, at_once=again)
        self._notifier.stopping(within_s)
        self._do(self._supervisor.stop(now))

    def _hup(self, signum: signal.Signals) -> None:
        if self._supervisor.is_stopping:
            return
        if self._terminal.has_just_closed():  # not the wish of an operator: nobody is there any more to stop us later
            self._log.warning("the terminal has closed")
            self._stop(signum)
        else:
            self._reload()

    def _reload(self) -> None:
        if plan := self._transitions.prepare():
            self._begin(plan)

    def _begin(self, plan: Plan) -> None:
        self._do(self._supervisor.reload(plan, time.monotonic()))

    def _more(self, _: signal.Signals) -> None:
        self._do(self._supervisor.scale(+1, time.monotonic()))

    def _fewer(self, _: signal.Signals) -> None:
        self._do(self._supervisor.scale(-1, time.monotonic()))

    def _pause(self, _: signal.Signals) -> None:
        if terminal.has_terminal():
            if not self._is_winch_explained:
                self._is_winch_explained = True
                self._log.info("WINCH ignored: a terminal sends it at each resize")
            return
        if self._supervisor.rollout.committed is None:
            self._log.warning("WINCH ignored: nobody serves yet")
            return
        self._log.info("draining all workers; HUP brings them back")
        self._do(self._supervisor.pause(time.monotonic()))

    def _reopen(self, _: signal.Signals) -> None:
        self._log.reopen()
        self._crew.tell_all(wire.Reopen())
        self._log.info("log files reopened")

    def _upgrade(self, _: signal.Signals) -> None:
        self._do(self._supervisor.upgrade(time.monotonic()))

    # Facts: workers

    def _hear(self, child: Child, message: wire.FromWorker) -> None:
        match message:
            case wire.Ready(interface=interface):
                child.interface = interface
                self._do(self._supervisor.ready(child.slot, time.monotonic()))
            case wire.Failed(reason):
                self._do(self._supervisor.failed(child.slot, reason, time.monotonic()))
            case wire.Leaving():
                self._signals.dispatch()  # the TERM may have been for the whole process group, as above
                self._do(self._supervisor.leaves(child.slot, time.monotonic()))

    def _on_garbled(self, child: Child) -> None:
        self._do(self._supervisor.garbled(child.slot, time.monotonic()))

    def _on_impossible(self, slot: int, cell: str, content: int) -> None:
        """A worker's row holds what cannot be: the ledger does without it."""
        self._crew.distrust(slot, cell, content)

    def _on_death(self, death: Death) -> None:
        problem = self._new_program.trial_ended(death)
        if problem is not None:
            self._do(self._supervisor.tried(problem, time.monotonic()))
        elif child := self._crew.dead(death.pid):
            self._history.record_exit(child.slot, death.cpu_s)
            self._do(self._supervisor.exited(child.slot, death.status, time.monotonic()))

    # Steps

    def _do(self, answers: Iterable[steps.Step]) -> None:
        """Have steps done in the order in which they were decided: what a step itself brings about comes after them."""
        is_at_work = bool(self._agenda)
        self._agenda.extend(answers)
        while self._agenda and not is_at_work:
            step = self._agenda[0]
            self._on_step[type(step)](step)
            self._agenda.popleft()
        self._transitions.prune()

    def _spawn(self, step: steps.Spawn) -> None:
        try:
            self._crew.spawn(step, self._transitions.of(step.generation))
        except OSError as error:  # a failed start like any other
            self._supervisor.failed(step.slot, f"cannot fork: {error.strerror}", time.monotonic())
            self._do(self._supervisor.exited(step.slot, int(ExitCode.INTERNAL), time.monotonic()))
        else:
            self._history.record_start(step.slot)
            self._held.memory.board.use(max(self._history.slots) + 1)

    def _quit(self, step: steps.Quit) -> None:
        self._code = step.code

    def _served(self, step: steps.Served) -> None:
        self._history.record_boot(step.boot_s)
        self._begin_term(step.slot, time.monotonic())
        self._crew.served(step)
        if not self._was_ready:
            self._was_ready = True
            self._notifier.ready(status_line(self._history, self._supervisor))
        else:
            self._notifier.status(status_line(self._history, self._supervisor))

    def _begin_term(self, slot: int, now: float) -> None:
        self._recycling.serves(
            slot,
            self._transitions.of(self._supervisor.workers[slot].plan.generation).config.workers,
            self._ledger.counter(slot, cells.STARTED),
            now,
            random.random(),  # noqa: S311 - it spreads replacements, and guards nothing
        )

    def _left(self, step: steps.Left) -> None:
        stack = self._crew.left(step)
        if step.status < 0:
            self._terminal.restore()
        if step.has_verdict:
            self._stack = stack or self._stack
        self._recycling.left(step.slot)
        if self._was_ready and not self._supervisor.is_stopping:
            self._notifier.status(status_line(self._history, self._supervisor))

    def _rolled_back(self, step: steps.RolledBack) -> None:
        if self._was_ready:
            self._transitions.rolled_back(step, self._stack)
            self._stack = ""
        else:
            self._failure = step.reason

    def _waiting(self, step: steps.Waiting) -> None:
        self._log.warning("waiting before the next start", delay_s=round(step.delay_s, 2), failures=step.failures)

    # One program in another's place

    def _try_successor(self, _: steps.TrySuccessor) -> None:
        try:
            self._new_program.start_trial(self._handover())
        except OSError as error:
            self._refuse(error)

    def _refuse(self, error: OSError) -> None:
        self._do(self._supervisor.tried(f"{self._new_program.name} cannot be run: {error.strerror}", time.monotonic()))

    def _to_give_way(self, _: steps.GiveWay) -> None:
        self._gives_way = True

    def _give_way(self) -> None:
        """Become the new program, unless something comes first.

        Signals are held from here until the new program has its handlers in place: it inherits what waits (execve(2)).
        """
        self._gives_way = False
        self._signals.block()
        self._do(self._supervisor.reconcile(time.monotonic()))
        if self._gives_way:
            self._gives_way = False
            try:
                self._new_program.execute(self._handover(), self._notifier.variables)
            except OSError as error:
                self._refuse(error)
        self._signals.unblock()

    def _handover(self) -> Handover:
        from asgid.config import reference  # noqa: PLC0415 - 1 MB of the master, for what most masters never do

        held = self._held
        return Handover(
            config=reference.toml(self._transitions.config),
            generation=self._transitions.newest,
            standing=self._supervisor.standing(),
            children=self._crew.parts(),
            listeners=self._listeners.to_handover(),
            history=self._history,
            board_fd=held.memory.fd,
            endpoint_fd=held.endpoint.fileno() if held.endpoint else None,
            pid_file_fd=held.pid_file.fd if held.pid_file else None,
            inherited=self._listeners.inherited,
            outlives_terminal=self._terminal.is_outlived,
        )

    def _take_over(self, predecessor: Handover) -> None:
        """Be the master of the workers that are there, and replace them as a reload does."""
        self._log.info("program replaced", version=__version__, before=predecessor.version, pid=os.getpid())
        self._transitions.resume(predecessor.standing.committed.generation, predecessor.generation)
        self._crew.adopt(predecessor.children)
        now = time.monotonic()
        for worker in self._supervisor.live():
            if worker.state is State.SERVING:
                self._begin_term(worker.slot, now)
        self._reload()

    def _pages(self) -> Callable[[bytes], bytes | None]:
        return Pages(self._unready, self._snapshot, self._ledger, self._log).respond

    def _unready(self) -> str:
        return self._supervisor.unready

    def _snapshot(self) -> Snapshot:
        return collect(self._history, self._supervisor, self._crew.children, self._listeners, time.monotonic())
