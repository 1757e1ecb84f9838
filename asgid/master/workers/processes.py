"""The workers' processes, by slot: carries out on them what the supervisor decided, and logs each change once.

What a worker says comes in over its lifeline and is handed on; nothing that comes there can harm the master. This file
decides nothing, and does not know what the workers are wanted for.
"""

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from asgid import descriptors, wire
from asgid.assignment import DUMP, Assignment, WorkerMain
from asgid.log import Log
from asgid.master.listeners import Listeners
from asgid.master.replace.handover import ChildPart
from asgid.master.supervision import steps
from asgid.master.supervision.generations import Generation
from asgid.master.supervision.lifecycle import ExitReason
from asgid.master.workers.board_memory import Memory
from asgid.master.workers.ledger import Ledger
from asgid.master.workers.spawn import Child, fork_worker

#: How long idle connections may still bring a request. At a stop it delays the end, at a reload it costs only memory.
LINGER_S = {ExitReason.SHUTDOWN: wire.STOP_LINGER_S}
LONG_LINGER_S = 5.0

_ORDERLY = frozenset({ExitReason.RELOAD, ExitReason.RECYCLE, ExitReason.SCALE, ExitReason.SHUTDOWN})


class Crew:
    """Every process that was not reaped yet. `hear` is called with each message of a worker, and `garbled` once when
    something else comes.
    """

    def __init__(
        self,
        *,
        worker: WorkerMain,
        log: Log,
        memory: Memory,
        ledger: Ledger,
        listeners: Listeners,
        selector: selectors.BaseSelector,
        hear: Callable[[Child, wire.FromWorker], None],
        garbled: Callable[[Child], None],
    ) -> None:
        self._worker, self._log, self._listeners = worker, log, listeners
        self._memory, self._ledger = memory, ledger
        self._selector, self._hear, self._garbled = selector, hear, garbled
        self.children: dict[int, Child] = {}

    def spawn(self, step: steps.Spawn, generation: Generation) -> None:
        """Fork a worker; raises OSError where the kernel has no memory or process left."""
        config, born = generation.config, time.monotonic()
        listeners, board = self._listeners.for_worker(config.listen), self._memory.board
        self._ledger.open(step.slot)  # before the worker can write there

        def assign(lifeline_fd: int, last_words_fd: int) -> Assignment:
            return Assignment(step.slot, step.generation, config, listeners, lifeline_fd, last_words_fd, board)

        child = fork_worker(step.slot, born, assign, self._worker, self._memory.confine)
        self._hold(child)
        self._log.info("worker started", **_whose(child), reason=step.why.value)

    def adopt(self, parts: Iterable[ChildPart]) -> None:
        """Be the master of processes that the program before this one has forked."""
        for part in parts:
            lifeline = socket.socket(fileno=descriptors.own(part.lifeline_fd))
            lifeline.setblocking(False)
            decoder = wire.from_worker(part.half_read)
            last_words = descriptors.own(part.last_words_fd)
            self._hold(Child(part.slot, part.generation, part.pid, part.born, lifeline, last_words, decoder))

    def parts(self) -> tuple[ChildPart, ...]:
        """Return what the next program needs to know of each process."""
        return tuple(
            ChildPart(
                child.slot,
                child.generation,
                child.pid,
                child.born,
                child.lifeline.fileno(),
                child.last_words,
                child.decoder.half_read,
            )
            for child in self.children.values()
        )

    def _hold(self, child: Child) -> None:
        self.children[child.slot] = child
        self._selector.register(child.lifeline, selectors.EVENT_READ, lambda _: self._read(child))

    def drain(self, step: steps.Drain) -> None:
        child = self.children[step.slot]
        self._log.info("worker draining", **_whose(child), reason=step.why.value)
        if step.is_booting or child.is_garbled:  # who writes on its lifeline may read there, too
            self._kill(child, signal.SIGTERM)
        else:
            self._tell(child, wire.Drain(step.grace_s, LINGER_S.get(step.why, LONG_LINGER_S)))

    def signal(self, step: steps.Signal) -> None:
        child = self.children[step.slot]
        self._log.error("worker signalled", **_whose(child), signal=step.signum.name, reason=step.why)
        self._kill(child, step.signum)

    def dump(self, step: steps.Dump) -> None:
        child = self.children[step.slot]
        self._log.warning("worker silent", **_whose(child), silent_s=round(step.silent_s, 2))
        self._kill(child, DUMP)

    def served(self, step: steps.Served) -> None:
        child = self.children[step.slot]
        self._log.info("worker ready", **_whose(child), boot_s=round(step.boot_s, 3), interface=child.interface)

    def left(self, step: steps.Left) -> str:
        """Take leave of a worker that was reaped, or that could not be forked. Returns the stack that it left, which is
        logged here unless a verdict follows that shows it.
        """
        child = self.children.pop(step.slot, None)
        if child is None:
            self._log.error("worker not started", slot=step.slot, generation=step.generation, problem=step.failure)
            return ""
        with suppress(KeyError):
            self._selector.unregister(child.lifeline)
        details: dict[str, object] = {"code": step.status}
        if step.status < 0:
            details = {"signal": signal_name(-step.status)}
        if step.failure:
            details["problem"] = step.failure
        stack = child.read_last_words()
        if stack and not step.has_verdict:
            details["stack"] = stack
        # One that is told to leave while it boots has nothing to finish: TERM ends it.
        is_orderly = step.why in _ORDERLY and step.status in (0, -signal.SIGTERM)
        write = self._log.info if is_orderly else self._log.error
        served_s = round(time.monotonic() - child.born, 3)
        write("worker exited", **_whose(child), reason=step.why.value, served_s=served_s, **details)
        child.close()
        self._ledger.retire(step.slot)
        return stack

    def spent(self, slot: int, why: str) -> None:
        self._log.info("worker spent", **_whose(self.children[slot]), reason=why)

    def distrust(self, slot: int, cell: str, content: int) -> None:
        """Report a number on the board that cannot be; the ledger reports one for each worker."""
        child = self.children.get(slot)
        whose = _whose(child) if child else {"slot": slot}
        self._log.error("impossible number", **whose, cell=cell.lower(), number=content)

    def dead(self, pid: int) -> Child | None:
        """Return whose process has ended, None for an orphan that PID 1 inherited; what it said last has been heard."""
        child = next((child for child in self.children.values() if child.pid == pid), None)
        if child:
            with suppress(KeyError):
                self._selector.get_key(child.lifeline)
                self._read(child)
        return child

    def tell_all(self, message: wire.FromMaster) -> None:
        for child in self.children.values():
            self._tell(child, message)

    def _read(self, child: Child) -> None:
        try:
            data = child.lifeline.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # it has closed its end: what comes next is its death, and reaping tells that
            self._selector.unregister(child.lifeline)
            return
        try:
            messages = child.decoder.feed(data)
        except ValueError as error:
            # An application has got hold of the descriptor: nothing more that comes here is read or believed.
            self._log.error("lifeline garbled", **_whose(child), problem=str(error))
            self._selector.unregister(child.lifeline)
            child.is_garbled = True
            self._garbled(child)
            return
        for message in messages:
            self._hear(child, message)

    def _tell(self, child: Child, message: wire.FromMaster) -> None:
        """Send a message; a worker that does not read has a deadline that deals with it."""
        with suppress(OSError):
            child.lifeline.send(wire.encode(message))

    def _kill(self, child: Child, signum: int) -> None:
        # A child that is not reaped yet keeps its pid: the signal can reach nobody else.
        with suppress(ProcessLookupError):
            os.kill(child.pid, signum)


def signal_name(number: int) -> str:
    """Return a signal's name; the real-time ones between the first and the last have none of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def _whose(child: Child) -> dict[str, int]:
    return {"slot": child.slot, "pid": child.pid, "generation": child.generation}
