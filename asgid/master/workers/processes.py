"""The worker processes, by slot: carries out the supervisor's steps on them, and logs each change once.

Messages of a worker arrive on its lifeline and are passed on; no bytes on it can harm the master. This module decides
nothing.
"""

import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from asgid import descriptors, wire
from asgid.assignment import DUMP, Assignment, WorkerMain
from asgid.log import Log
from asgid.master.listeners import Listeners
from asgid.master.supervision import steps
from asgid.master.supervision.generations import Generation
from asgid.master.supervision.lifecycle import ExitReason
from asgid.master.workers.board_memory import BoardMemory
from asgid.master.workers.ledger import Ledger
from asgid.master.workers.process_state import ProcessState
from asgid.master.workers.spawn import Child, fork_worker
from asgid.pipes import PipeEnd

#: How long a draining worker keeps idle connections open. At a stop this delays the end; at a reload it costs memory.
LINGER_S = {ExitReason.SHUTDOWN: wire.STOP_LINGER_S}
LONG_LINGER_S = 5.0

_ORDERLY = frozenset({ExitReason.RELOAD, ExitReason.RECYCLE, ExitReason.SCALE, ExitReason.SHUTDOWN})


class WorkerProcesses:
    """Every worker process that is not reaped yet. Calls `on_message` with each message of a worker, and
    `on_invalid_message` once if a worker sends anything else.
    """

    def __init__(
        self,
        *,
        worker: WorkerMain,
        log: Log,
        memory: BoardMemory,
        ledger: Ledger,
        listeners: Listeners,
        selector: selectors.BaseSelector,
        on_message: Callable[[Child, wire.FromWorker], None],
        on_invalid_message: Callable[[Child], None],
    ) -> None:
        self._worker, self._log, self._listeners = worker, log, listeners
        self._memory, self._ledger = memory, ledger
        self._selector, self._on_message, self._on_invalid_message = selector, on_message, on_invalid_message
        self.children: dict[int, Child] = {}

    def spawn(self, step: steps.Spawn, generation: Generation) -> None:
        """Fork a worker. Raises OSError if the kernel has no memory or process left."""
        config, started_at = generation.config, time.monotonic()
        listeners, board = self._listeners.for_worker(config.listen), self._memory.board
        self._ledger.open(step.slot)  # before the worker can write there

        def assign(lifeline: PipeEnd, last_words_fd: int) -> Assignment:
            return Assignment(step.slot, step.generation, config, listeners, lifeline, last_words_fd, board)

        child = fork_worker(step.slot, started_at, assign, self._worker, self._memory.confine)
        self._add(child)
        self._log.info("worker started", **_ids(child), reason=step.reason.value)

    def adopt(self, states: Iterable[ProcessState]) -> None:
        """Take over the processes that the previous program has forked."""
        for state in states:
            lifeline = PipeEnd(descriptors.own(state.lifeline_fd), descriptors.own(state.lifeline_writer_fd))
            lifeline.set_nonblocking()
            decoder = wire.from_worker(state.half_read)
            last_words = descriptors.own(state.stack_dump_fd)
            self._add(Child(state.slot, state.generation, state.pid, state.started_at, lifeline, last_words, decoder))

    def to_handover(self) -> tuple[ProcessState, ...]:
        """Return the state of each process for the next program."""
        return tuple(
            ProcessState(
                child.slot,
                child.generation,
                child.pid,
                child.started_at,
                child.lifeline.reader,
                child.lifeline.writer,
                child.last_words_fd,
                child.decoder.half_read,
            )
            for child in self.children.values()
        )

    def _add(self, child: Child) -> None:
        self.children[child.slot] = child
        self._selector.register(child.lifeline.reader, selectors.EVENT_READ, lambda _: self._read(child))

    def drain(self, step: steps.Drain) -> None:
        child = self.children[step.slot]
        self._log.info("worker draining", **_ids(child), reason=step.reason.value)
        if step.is_booting or child.has_sent_invalid_message:  # code that writes to the lifeline may read it, too
            self._kill(child, signal.SIGTERM)
        else:
            self._send(child, wire.Drain(step.grace_s, LINGER_S.get(step.reason, LONG_LINGER_S)))

    def signal(self, step: steps.Signal) -> None:
        child = self.children[step.slot]
        self._log.error("worker signalled", **_ids(child), signal=step.signum.name, reason=step.reason)
        self._kill(child, step.signum)

    def dump(self, step: steps.Dump) -> None:
        child = self.children[step.slot]
        self._log.warning("worker silent", **_ids(child), silent_s=round(step.silent_s, 2))
        self._kill(child, DUMP)

    def log_ready(self, step: steps.WorkerReady) -> None:
        child = self.children[step.slot]
        self._log.info("worker ready", **_ids(child), boot_s=round(step.boot_s, 3), interface=child.interface)

    def remove(self, step: steps.WorkerExited) -> str:
        """Remove a worker that was reaped, or that could not be forked, and log its exit. Return the stack that it
        left; the log line has it too, unless it is decisive.
        """
        child = self.children.pop(step.slot, None)
        if child is None:
            self._log.error("worker not started", slot=step.slot, generation=step.generation, problem=step.failure)
            return ""
        with suppress(KeyError):
            self._selector.unregister(child.lifeline.reader)
        details: dict[str, object] = {"code": step.status}
        if step.status < 0:
            details = {"signal": signal_name(-step.status)}
        if step.failure:
            details["problem"] = step.failure
        stack = child.read_last_words()
        if stack and not step.is_decisive:
            details["stack"] = stack
        # A worker that is drained while it boots has nothing to finish, so TERM ends it.
        is_orderly = step.reason in _ORDERLY and step.status in (0, -signal.SIGTERM)
        write = self._log.info if is_orderly else self._log.error
        served_s = round(time.monotonic() - child.started_at, 3)
        write("worker exited", **_ids(child), reason=step.reason.value, served_s=served_s, **details)
        child.close()
        self._ledger.retire(step.slot)
        for listener, options in self._listeners.restore_options():
            self._log.error("listener options restored", listener=listener, options=" ".join(options))
        return stack

    def log_recycling(self, slot: int, limit: str) -> None:
        self._log.info("worker due for recycling", **_ids(self.children[slot]), reason=limit)

    def log_invalid_number(self, slot: int, cell: str, content: int) -> None:
        """Log an invalid number on the board, which the ledger reports once for each worker."""
        child = self.children.get(slot)
        ids = _ids(child) if child else {"slot": slot}
        self._log.error("invalid number from worker", **ids, cell=cell.lower(), number=content)

    def find_by_pid(self, pid: int) -> Child | None:
        """Return the worker process with this pid. None for any other, such as an orphan that PID 1 adopts."""
        return next((child for child in self.children.values() if child.pid == pid), None)

    def read_last_messages(self, child: Child) -> None:
        """Pass on the messages that a process sent before it exited."""
        with suppress(KeyError):
            self._selector.get_key(child.lifeline.reader)
            self._read(child)

    def send_all(self, message: wire.FromMaster) -> None:
        for child in self.children.values():
            self._send(child, message)

    def _read(self, child: Child) -> None:
        data = child.lifeline.read()
        if data is None:
            return
        if not data:  # the worker has closed its end; its exit follows, and reaping reports that
            self._selector.unregister(child.lifeline.reader)
            return
        try:
            messages = child.decoder.feed(data)
        except ValueError as error:
            # The application writes to the descriptor of the lifeline: read nothing more from it.
            self._log.error("invalid message from worker", **_ids(child), problem=str(error))
            self._selector.unregister(child.lifeline.reader)
            child.has_sent_invalid_message = True
            self._on_invalid_message(child)
            return
        for message in messages:
            self._on_message(child, message)

    def _send(self, child: Child, message: wire.FromMaster) -> None:
        """Send a message. If the worker does not read it, the worker misses its deadline."""
        with suppress(OSError):
            child.lifeline.write(wire.encode(message))

    def _kill(self, child: Child, signum: int) -> None:
        # A pid is not used again before its process is reaped, so the signal cannot reach another process.
        with suppress(ProcessLookupError):
            os.kill(child.pid, signum)


def signal_name(number: int) -> str:
    """Return the name of a signal. Real-time signals between the first and the last have no name of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def _ids(child: Child) -> dict[str, int]:
    return {"slot": child.slot, "pid": child.pid, "generation": child.generation}
