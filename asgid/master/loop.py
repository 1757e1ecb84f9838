"""The master's loop: waits for descriptors and deadlines, passes facts to the supervisor, and carries out its steps.

One turn reads every ready descriptor, reaps every exited process, and then passes the time to the supervisor. The order
matters after the master itself was stopped for a while: a `ready` may be waiting, and the heartbeats on the board are
current. So no healthy worker is aborted for a deadline that only the master missed. The loop blocks in the selector and
nowhere else.

The supervisor decides. `WorkerProcesses` acts on processes; `Reload` changes the listeners, the title and the log.
"""

import os
import random
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from asgid import __version__, descriptors, wire
from asgid import board as cells
from asgid.assignment import WorkerMain
from asgid.config import Config, reference
from asgid.errors import ExitCode, UnavailableError
from asgid.master.reload import Reload
from asgid.master.replace.handover import Handover
from asgid.master.replace.new_program import Command, NewProgram
from asgid.master.resources import Resources
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
from asgid.master.workers.processes import WorkerProcesses
from asgid.master.workers.spawn import Child, ExitedProcess, has_exited_child, reap
from asgid.master.workers.usage import resident_bytes

#: epoll_wait(2) takes 2**31 milliseconds, 24.8 days; Python raises OverflowError above that.
MAX_WAIT_S = 86400.0
#: A second TERM within this time is the same request.
REPEATED_TERM_S = 0.1
#: A delay this long means that the master itself did not run: a paused container, a suspended machine, a stopped job.
#: Its workers were probably stopped too, so their deadlines are extended. Otherwise all of them, healthy and with
#: requests in progress, would be aborted as soon as they resume.
STALL_S = 1.0


class Loop:
    """The loop around the supervisor. `run` returns when all workers have exited after a stop or a failed start."""

    def __init__(
        self,
        resources: Resources,
        *,
        load: Callable[[], Config],
        worker: WorkerMain,
        program: Command,
        cpus: int,
        predecessor: Handover | None = None,
    ) -> None:
        """`predecessor` is the handover of the previous program, if this one replaces it."""
        self._resources, self._predecessor = resources, predecessor
        self._log, self._listeners, self._notifier = resources.log, resources.listeners, resources.notifier
        self._selector = selectors.EpollSelector()
        descriptors.register(self._selector.fileno())
        self._supervisor = Supervisor.resume(predecessor.supervisor, time.monotonic()) if predecessor else Supervisor()
        self._history = (
            predecessor.history if predecessor else StatusHistory(time.monotonic(), time.time(), time.time())
        )
        board, corrections = resources.memory.board, self._history.corrections
        self._ledger = Ledger(board, corrections, time.monotonic_ns, self._on_invalid_number)
        self._processes = WorkerProcesses(
            worker=worker,
            log=resources.log,
            memory=resources.memory,
            ledger=self._ledger,
            listeners=resources.listeners,
            selector=self._selector,
            on_message=self._on_message,
            on_invalid_message=self._on_invalid_message,
        )
        self._reload = Reload(resources, self._supervisor, self._history, load, cpus)
        self._recycling = Recycling()
        self._new_program = NewProgram(program, self._selector, resources.log)
        pages = Pages(lambda: self._supervisor.unready, self._snapshot, self._ledger, resources.log)
        endpoint = resources.endpoint
        self._endpoint = Endpoint(endpoint, self._selector, pages.respond, resources.log) if endpoint else None
        is_outlived = predecessor.outlives_terminal if predecessor else terminal.ignores_hangup()
        self._terminal = Terminal(self._selector, is_outlived=is_outlived)
        self._signals = Signals(self._selector, self._signal_actions())
        self._step_actions = self._actions_by_step()
        self._pending_steps: deque[steps.Step] = deque()
        self._exit_code: ExitCode | None = None
        self._has_been_ready = predecessor is not None
        self._is_exec_requested = False
        self._stopped_at = 0.0
        self._is_winch_explained = False
        self.start_failure = ""  #: why no worker became ready, if the start failed
        self._decisive_stack = ""  # of the worker that made a start or a reload fail last
        self._watchdog_at = 0.0 if resources.notifier.watchdog_s else float("inf")

    def _signal_actions(self) -> Mapping[signal.Signals, Callable[[signal.Signals], None]]:
        return {
            signal.SIGTERM: self._stop,
            signal.SIGQUIT: self._stop,
            signal.SIGINT: self._stop,
            signal.SIGHUP: self._hang_up,
            signal.SIGTTIN: partial(self._scale, +1),
            signal.SIGTTOU: partial(self._scale, -1),
            signal.SIGUSR1: self._reopen_logs,
            signal.SIGUSR2: self._upgrade,
            signal.SIGWINCH: self._pause,
        }

    def _actions_by_step(self) -> Mapping[type, Callable[[Any], None]]:
        # Any: each method takes the type of step that is its key, which the type of a dict cannot express.
        return {
            steps.Spawn: self._spawn,
            steps.Drain: self._processes.drain,
            steps.Signal: self._processes.signal,
            steps.Dump: self._processes.dump,
            steps.StartTrial: self._start_trial,
            steps.SignalTrial: self._new_program.signal_trial,
            steps.ExecNewProgram: self._request_exec,
            steps.Quit: self._quit,
            steps.WorkerReady: self._on_worker_ready,
            steps.WorkerExited: self._on_worker_exited,
            steps.BackingOff: self._on_backing_off,
            steps.ReloadStarted: self._reload.on_started,
            steps.Committed: self._reload.on_committed,
            steps.RolledBack: self._on_rolled_back,
            steps.Superseded: self._reload.on_superseded,
            steps.UpgradeRefused: self._new_program.log_refusal,
        }

    def run(self) -> ExitCode:
        """Start the workers, or adopt those of the previous program, and turn until the end."""
        self._signals.install()
        if self._predecessor:
            self._adopt_workers(self._predecessor)
        else:
            timeouts = self._reload.config.timeouts
            self._notifier.starting(timeouts.boot + timeouts.kill)
            self._start_plan(self._reload.first_plan())
        while self._exit_code is None:
            self._turn()
            if self._is_exec_requested:
                self._exec_new_program()
        if self._endpoint:
            self._endpoint.close()
        self._terminal.close()
        self._selector.close()
        self._log.info("stopped", code=int(self._exit_code))
        if self._exit_code is ExitCode.NO_WORKER:  # last, because readers of a log look at its end first
            stack = {"stack": self._decisive_stack} if self._decisive_stack else {}
            self._log.error("cannot start: no worker became ready", problem=self.start_failure, **stack)
        return self._exit_code

    def _turn(self) -> None:
        due = self._supervisor.next_deadline()
        self._selector.select(self._select_timeout())
        # Take the time before the descriptors are read: then every message that was sent before `now` is handled. The
        # wait's own events are not enough: after STOP and CONT it returns none (EINTR, past its timeout).
        now = time.monotonic()
        for key, mask in self._selector.select(0):
            key.data(mask)
        if has_exited_child():
            # TERM to the whole process group reached this process before it ended a child: a stop, not a crash.
            self._signals.dispatch()
        for process in reap():
            self._on_process_exit(process)
        if now - due > STALL_S:
            self._log.warning("master was stalled", late_s=round(now - due, 1))
            self._supervisor.on_stall(now, now - due)
        self._carry_out(self._supervisor.tick(now, self._ledger.heartbeats(self._processes.children)))
        if now >= self._recycling.next_deadline():
            self._recycle(now)
        if self._endpoint:
            self._endpoint.expire(now)
        if now >= self._watchdog_at and self._notifier.watchdog_s:
            self._notifier.watchdog()
            self._watchdog_at = now + self._notifier.watchdog_s / 2

    def _select_timeout(self) -> float | None:
        now = time.monotonic()
        endpoint_at = self._endpoint.next_deadline() if self._endpoint else None
        deadline = min(
            self._supervisor.next_deadline(),
            self._recycling.next_deadline(),
            endpoint_at or float("inf"),
            self._watchdog_at,
        )
        return None if deadline == float("inf") else min(max(0.0, deadline - now), MAX_WAIT_S)

    def _recycle(self, now: float) -> None:
        """Recycle the first worker that is due. The next one follows when that one has been replaced."""
        supervisor = self._supervisor
        serving = [worker for worker in supervisor.live() if worker.state is State.SERVING]
        expired = self._recycling.first_expired(
            now,
            [] if any(worker.is_retiring for worker in serving) else [worker.slot for worker in serving],
            lambda slot: self._ledger.counter(slot, cells.STARTED),
            lambda slot: resident_bytes(self._processes.children[slot].pid),
        )
        if expired:
            slot, limit = expired
            self._processes.log_recycling(slot, limit)
            self._carry_out(supervisor.recycle(slot, now))

    def _snapshot(self) -> Snapshot:
        return collect(self._history, self._supervisor, self._processes.children, self._listeners, time.monotonic())

    # Facts: signals

    def _stop(self, signum: signal.Signals) -> None:
        now = time.monotonic()
        if self._supervisor.is_stopping:
            # timeout(1) sends TERM to a process and then to its group: two signals for one request.
            is_repeated = signum is signal.SIGTERM and now - self._stopped_at < REPEATED_TERM_S
            if signum is not signal.SIGQUIT and not is_repeated:
                self._log.warning("stopping at once", signal=signum.name)
                self._carry_out(self._supervisor.stop_now(now))
            return
        self._stopped_at = now
        timeouts = self._reload.config.timeouts
        within_s = timeouts.graceful + timeouts.kill
        again = "press Ctrl-C again" if terminal.has_terminal() else f"kill -INT {os.getpid()}"
        self._log.info("stopping", signal=signum.name, within_s=within_s, at_once=again)
        self._notifier.stopping(within_s)
        self._carry_out(self._supervisor.stop(now))

    def _hang_up(self, signum: signal.Signals) -> None:
        if self._supervisor.is_stopping:
            return
        if self._terminal.has_just_closed():  # the HUP is not an operator's, and Ctrl-C cannot stop the server any more
            self._log.warning("the terminal has closed")
            self._stop(signum)
        else:
            self._prepare_reload()

    def _prepare_reload(self) -> None:
        if plan := self._reload.prepare():
            self._start_plan(plan)

    def _start_plan(self, plan: Plan) -> None:
        self._carry_out(self._supervisor.reload(plan, time.monotonic()))

    def _scale(self, change: int, _: signal.Signals) -> None:
        self._carry_out(self._supervisor.scale(change, time.monotonic()))

    def _pause(self, _: signal.Signals) -> None:
        if terminal.has_terminal():
            if not self._is_winch_explained:
                self._is_winch_explained = True
                self._log.info("WINCH ignored: a terminal sends it at each resize")
            return
        if self._supervisor.rollout.committed is None:
            self._log.warning("WINCH ignored: no worker is ready yet")
            return
        self._log.info("draining all workers; HUP brings them back")
        self._carry_out(self._supervisor.pause(time.monotonic()))

    def _reopen_logs(self, _: signal.Signals) -> None:
        self._log.reopen()
        self._processes.send_all(wire.Reopen())
        self._log.info("log files reopened")

    def _upgrade(self, _: signal.Signals) -> None:
        self._carry_out(self._supervisor.start_upgrade(time.monotonic()))

    # Facts: workers

    def _on_message(self, child: Child, message: wire.FromWorker) -> None:
        match message:
            case wire.Ready(interface=interface):
                child.interface = interface
                self._carry_out(self._supervisor.ready(child.slot, time.monotonic()))
            case wire.Failed(reason):
                self._carry_out(self._supervisor.failed(child.slot, reason, time.monotonic()))
            case wire.Leaving():
                self._signals.dispatch()  # its TERM may have been for the whole process group: a stop comes first
                self._carry_out(self._supervisor.leaving(child.slot, time.monotonic()))

    def _on_invalid_message(self, child: Child) -> None:
        self._carry_out(self._supervisor.invalid_message(child.slot, time.monotonic()))

    def _on_invalid_number(self, slot: int, cell: str, content: int) -> None:
        self._processes.log_invalid_number(slot, cell, content)

    def _on_process_exit(self, process: ExitedProcess) -> None:
        problem = self._new_program.trial_ended(process)
        if problem is not None:
            self._carry_out(self._supervisor.trial_ended(problem, time.monotonic()))
        elif child := self._processes.find_by_pid(process.pid):
            self._processes.read_last_messages(child)
            self._history.record_exit(child.slot, process.cpu_s)
            self._carry_out(self._supervisor.exited(child.slot, process.status, time.monotonic()))

    # Steps

    def _carry_out(self, answer: Iterable[steps.Step]) -> None:
        """Carry out steps in the order of their decisions: those that a step leads to come after all pending ones."""
        is_nested = bool(self._pending_steps)
        self._pending_steps.extend(answer)
        while self._pending_steps and not is_nested:
            step = self._pending_steps[0]
            self._step_actions[type(step)](step)
            self._pending_steps.popleft()
        self._reload.prune()

    def _spawn(self, step: steps.Spawn) -> None:
        try:
            self._processes.spawn(step, self._reload.generation(step.generation))
        except OSError as error:  # handled as the exit of a worker that failed
            self._supervisor.failed(step.slot, f"cannot fork: {error.strerror}", time.monotonic())
            self._carry_out(self._supervisor.exited(step.slot, int(ExitCode.INTERNAL), time.monotonic()))
        else:
            self._history.record_start(step.slot)
            self._resources.memory.board.set_used_slots(max(self._history.slots) + 1)

    def _quit(self, step: steps.Quit) -> None:
        self._exit_code = step.code

    def _on_worker_ready(self, step: steps.WorkerReady) -> None:
        self._history.record_boot(step.boot_s)
        self._start_budget(step.slot, time.monotonic())
        self._processes.log_ready(step)
        if not self._has_been_ready:
            self._has_been_ready = True
            self._notifier.ready(status_line(self._history, self._supervisor))
        else:
            self._notifier.status(status_line(self._history, self._supervisor))

    def _start_budget(self, slot: int, now: float) -> None:
        self._recycling.on_ready(
            slot,
            self._reload.generation(self._supervisor.workers[slot].plan.generation).config.workers,
            self._ledger.counter(slot, cells.STARTED),
            now,
            random.random(),  # noqa: S311 - it spreads replacements over time, and protects nothing
        )

    def _on_worker_exited(self, step: steps.WorkerExited) -> None:
        stack = self._processes.remove(step)
        if step.status < 0:
            self._terminal.restore()
        if step.is_decisive:
            self._decisive_stack = stack or self._decisive_stack
        self._recycling.on_exit(step.slot)
        if self._has_been_ready and not self._supervisor.is_stopping:
            self._notifier.status(status_line(self._history, self._supervisor))

    def _on_rolled_back(self, step: steps.RolledBack) -> None:
        if self._has_been_ready:
            self._reload.on_rolled_back(step, self._decisive_stack)
            self._decisive_stack = ""
        else:
            self.start_failure = step.reason

    def _on_backing_off(self, step: steps.BackingOff) -> None:
        self._log.warning("waiting before the next start", delay_s=round(step.delay_s, 2), failures=step.failures)

    # The upgrade to a new program

    def _start_trial(self, _: steps.StartTrial) -> None:
        try:
            self._new_program.start_trial(self._handover())
        except (OSError, UnavailableError) as error:
            self._refuse_upgrade(error)

    def _refuse_upgrade(self, error: OSError | UnavailableError) -> None:
        reason = error.strerror if isinstance(error, OSError) else error
        problem = f"{self._new_program.name} cannot be run: {reason}"
        self._carry_out(self._supervisor.trial_ended(problem, time.monotonic()))

    def _request_exec(self, _: steps.ExecNewProgram) -> None:
        self._is_exec_requested = True

    def _exec_new_program(self) -> None:
        """Execute the new program, unless a fact has withdrawn the step.

        Signals are blocked until the new program has installed its handlers. It inherits pending ones (execve(2)).
        """
        self._is_exec_requested = False
        self._signals.block()
        self._carry_out(self._supervisor.reconcile(time.monotonic()))
        if self._is_exec_requested:
            self._is_exec_requested = False
            try:
                self._new_program.execute(self._handover(), self._notifier.variables)
            except OSError as error:
                self._refuse_upgrade(error)
        self._signals.unblock()

    def _handover(self) -> Handover:
        resources = self._resources
        return Handover(
            config=reference.config_to_toml(self._reload.config),
            generation=self._reload.newest,
            supervisor=self._supervisor.state(),
            children=self._processes.to_handover(),
            listeners=self._listeners.to_handover(),
            history=self._history,
            board_fd=resources.memory.fd,
            endpoint_fd=resources.endpoint.fileno() if resources.endpoint else None,
            pid_file_fd=resources.pid_file.fd if resources.pid_file else None,
            inherited=self._listeners.inherited,
            outlives_terminal=self._terminal.is_outlived,
        )

    def _adopt_workers(self, predecessor: Handover) -> None:
        """Adopt the workers of the previous program, and replace them by a reload."""
        self._log.info("program replaced", version=__version__, before=predecessor.version, pid=os.getpid())
        self._reload.resume(predecessor.supervisor.committed.generation, predecessor.generation)
        self._processes.adopt(predecessor.children)
        now = time.monotonic()
        for worker in self._supervisor.live():
            if worker.state is State.SERVING:
                self._start_budget(worker.slot, now)
        self._prepare_reload()
