"""The shape of the master, small enough for one sitting: read this before asgid/master, run it, and kill its workers.

    python examples/miniature.py [PORT]     then: curl the address, kill -KILL a worker, kill -HUP or -TERM the master

Three parts, as in the house: decisions that are pure (facts in, steps out), a worker, and a thin shell that makes the
system calls. Between master and worker runs one socketpair, the lifeline. Its whole language is one byte, "ready", and
the end of the stream: to the worker it says "drain" (as asked, or because the master is gone), to the master "gone".

The real master adds what a long life needs: back-off, heartbeats on the board, a canary, ABRT before KILL.
"""

import math
import os
import select
import selectors
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Literal

# 1. The decisions. No system call and no clock: time is the argument `now`, so a test needs no process and no patience.


class State(Enum):
    """What a worker is doing, with the seconds it may take; a worker past its deadline is killed."""

    BOOTING = 10.0
    SERVING = math.inf
    DRAINING = 5.0


@dataclass(slots=True)
class Worker:
    generation: int
    state: State
    deadline: float

    def enter(self, state: State, now: float) -> None:
        self.state, self.deadline = state, now + state.value


@dataclass(frozen=True, slots=True)
class Step:
    do: Literal["spawn", "drain", "kill"]
    slot: int


class Supervisor:
    """Knows what runs and what is wanted. Facts change that; `reconcile` returns the steps that close the gap."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.generation = wanted, 1
        self.workers: dict[int, Worker] = {}  # by slot, oldest first

    def ready(self, slot: int, now: float) -> None:
        if self.workers[slot].state is State.BOOTING:  # one told to drain while it booted goes on draining
            self.workers[slot].enter(State.SERVING, now)

    def gone(self, slot: int) -> None:
        del self.workers[slot]

    def reload(self) -> None:
        self.generation += 1  # nothing more: every worker is stale now, and reconcile sees it

    def stop(self) -> None:
        self.wanted = 0

    def next_deadline(self) -> float:
        return min((worker.deadline for worker in self.workers.values()), default=math.inf)

    def reconcile(self, now: float) -> list[Step]:
        """Answer boot, crash, reload and stop alike, for they ask one question: what may be done about the gap now?"""
        overdue = [slot for slot, worker in self.workers.items() if now >= worker.deadline]
        live = [slot for slot, worker in self.workers.items() if worker.state is not State.DRAINING]
        fresh = [slot for slot in live if self.workers[slot].generation == self.generation]
        stale = [slot for slot in live if slot not in fresh]
        spare = sum(self.workers[slot].state is State.SERVING for slot in live) - self.wanted
        steps = [Step("kill", slot) for slot in overdue]
        for slot in overdue:
            self.workers[slot].deadline = now + 1.0  # should even KILL be slow: once a second, not in a busy loop

        # Spawn what is missing; in a reload one above the number wanted: a new one serves before an old one leaves.
        for _ in range(min(self.wanted - len(fresh), self.wanted + 1 - len(live))):
            slot = next(slot for slot in count() if slot not in self.workers)
            self.workers[slot] = Worker(self.generation, State.BOOTING, now + State.BOOTING.value)
            steps.append(Step("spawn", slot))

        # Drain what is too much, the oldest first, but none that serves and cannot be spared.
        for slot in stale + fresh[self.wanted :]:
            serves = self.workers[slot].state is State.SERVING
            if spare > 0 or not serves:
                spare -= serves
                self.workers[slot].enter(State.DRAINING, now)
                steps.append(Step("drain", slot))
        return steps


# 2. The worker. It knows a listener and its end of the lifeline; of slots, siblings and reloads it knows nothing.


def serve(listener: socket.socket, lifeline: socket.socket) -> None:
    body = f"hello from pid {os.getpid()}\n"
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
    lifeline.send(b"r")
    while lifeline not in select.select([listener, lifeline], [], [])[0]:
        with suppress(OSError):  # a sibling took the connection, or its client left: neither is our business
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(1.0)  # a silent client must not hold up a drain
                connection.recv(65536)
                connection.sendall(answer)


# 3. The shell. It makes every system call and no decision.


class Master:
    """One turn: wait for anything, tell the supervisor all that happened, carry out what it answers."""

    def __init__(self, listener: socket.socket, workers: int) -> None:
        self.listener = listener
        self.supervisor = Supervisor(workers)
        self.children: dict[int, tuple[int, socket.socket]] = {}  # by slot: the pid, and our end of the lifeline
        self.selector = selectors.DefaultSelector()
        self.alarm, self.bell = socket.socketpair()

    def run(self) -> None:
        self.bell.settimeout(0)
        signal.set_wakeup_fd(self.bell.fileno())  # a signal becomes a byte to read; nothing is done in a handler
        for signum in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: None)
        self.selector.register(self.alarm, selectors.EVENT_READ)
        self.carry_out(self.supervisor.reconcile(time.monotonic()))
        while self.children:
            self.wait(min(60.0, self.supervisor.next_deadline() - time.monotonic()))
            self.reap()
            self.carry_out(self.supervisor.reconcile(time.monotonic()))

    def wait(self, at_most_s: float) -> None:
        for key, _ in self.selector.select(at_most_s):
            if key.fileobj is self.alarm:
                signums = self.alarm.recv(4096)
                if signal.SIGHUP in signums:
                    self.supervisor.reload()
                if signal.SIGTERM in signums or signal.SIGINT in signums:
                    self.supervisor.stop()
            elif self.children[key.data][1].recv(1):
                self.supervisor.ready(key.data, time.monotonic())
            else:
                self.selector.unregister(key.fileobj)  # it has gone; SIGCHLD will say so too

    def reap(self) -> None:
        for slot, (pid, lifeline) in list(self.children.items()):
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                with suppress(KeyError):  # unregistered above, unless the exit was faster than the end of the stream
                    self.selector.unregister(lifeline)
                lifeline.close()
                del self.children[slot]
                self.supervisor.gone(slot)

    def carry_out(self, steps: list[Step]) -> None:
        for step in steps:
            print(step.do, step.slot, flush=True)  # each step is logged here and nowhere else
            match step.do:
                case "spawn":
                    self.spawn(step.slot)
                case "drain":
                    self.children[step.slot][1].shutdown(socket.SHUT_WR)
                case "kill":
                    os.kill(self.children[step.slot][0], signal.SIGKILL)

    def spawn(self, slot: int) -> None:
        ours, theirs = socket.socketpair()
        if pid := os.fork():
            theirs.close()
            self.children[slot] = (pid, ours)
            self.selector.register(ours, selectors.EVENT_READ, slot)
            return
        try:
            self.forget(ours)
            serve(self.listener, theirs)
        except Exception:  # noqa: BLE001 - the child's border: nothing may unwind into the master's code
            traceback.print_exc()
        finally:
            os._exit(0)

    def forget(self, ours: socket.socket) -> None:
        """Let go, in the child, of what is the master's: above all its lifeline ends, or they would outlive it."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for signum in (signal.SIGHUP, signal.SIGINT):  # a terminal tells the whole group; the master speaks for all
            signal.signal(signum, signal.SIG_IGN)
        self.selector.close()
        for end in (ours, self.alarm, self.bell, *(lifeline for _, lifeline in self.children.values())):
            end.close()


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0  # 0: the kernel chooses
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(0)  # every worker wakes for a connection; those who come late must not wait in accept
        print(f"master {os.getpid()} listens on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        Master(listener, workers=2).run()


if __name__ == "__main__":
    main()
