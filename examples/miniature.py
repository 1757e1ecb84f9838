"""The shape of the master, small enough for one sitting: read this before asgid/master, run it, and kill its workers.

    python examples/miniature.py [PORT]     then: curl the address, kill -KILL a worker, kill -HUP or -TERM the master

It has three parts, as asgid has: pure decisions (facts in, steps out), a worker, and a thin shell that makes the system
calls. Master and worker share one socketpair, the lifeline. It carries one byte, "ready". At its end a worker drains,
because the master wants that or is dead. To the master the end means that the worker has exited.

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

# 1. The decisions. No system call and no clock: time is the argument `now`, so a test needs no process and no waiting.


class State(Enum):
    """The state of a worker, with the seconds that it may take; a worker past its deadline is killed."""

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
    """The workers that run, and the number that is wanted. Facts change both; `reconcile` returns the steps between."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.generation = wanted, 1
        self.workers: dict[int, Worker] = {}  # by slot, oldest first

    def ready(self, slot: int, now: float) -> None:
        if self.workers[slot].state is State.BOOTING:  # one that was drained while it booted goes on draining
            self.workers[slot].enter(State.SERVING, now)

    def exited(self, slot: int) -> None:
        del self.workers[slot]

    def reload(self) -> None:
        self.generation += 1  # nothing more: every worker is stale now, and reconcile replaces it

    def stop(self) -> None:
        self.wanted = 0

    def next_deadline(self) -> float:
        return min((worker.deadline for worker in self.workers.values()), default=math.inf)

    def reconcile(self, now: float) -> list[Step]:
        """Return the steps for boot, crash, reload and stop alike: from the workers that run to those that should."""
        overdue = [slot for slot, worker in self.workers.items() if now >= worker.deadline]
        live = [slot for slot, worker in self.workers.items() if worker.state is not State.DRAINING]
        fresh = [slot for slot in live if self.workers[slot].generation == self.generation]
        stale = [slot for slot in live if slot not in fresh]
        spare = sum(self.workers[slot].state is State.SERVING for slot in live) - self.wanted
        steps = [Step("kill", slot) for slot in overdue]
        for slot in overdue:
            self.workers[slot].deadline = now + 1.0  # if KILL takes long, send it once a second, not in a busy loop

        # Spawn the missing ones. A reload may have one more than wanted: a new one serves before an old one drains.
        for _ in range(min(self.wanted - len(fresh), self.wanted + 1 - len(live))):
            slot = next(slot for slot in count() if slot not in self.workers)
            self.workers[slot] = Worker(self.generation, State.BOOTING, now + State.BOOTING.value)
            steps.append(Step("spawn", slot))

        # Drain the surplus, oldest first, but no serving worker below the number wanted.
        for slot in stale + fresh[self.wanted :]:
            serves = self.workers[slot].state is State.SERVING
            if spare > 0 or not serves:
                spare -= serves
                self.workers[slot].enter(State.DRAINING, now)
                steps.append(Step("drain", slot))
        return steps


# 2. The worker. It has a listener and its end of the lifeline, and depends on no slot, sibling or reload.


def serve(listener: socket.socket, lifeline: socket.socket) -> None:
    body = f"hello from pid {os.getpid()}\n"
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
    lifeline.send(b"r")
    while lifeline not in select.select([listener, lifeline], [], [])[0]:
        with suppress(OSError):  # a sibling has accepted the connection, or the client has gone
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(1.0)  # a client that sends nothing must not delay a drain
                connection.recv(65536)
                connection.sendall(answer)


# 3. The shell. It makes every system call and no decision.


class Master:
    """One turn: wait for any event, pass all facts to the supervisor, carry out the steps that it returns."""

    def __init__(self, listener: socket.socket, workers: int) -> None:
        self.listener = listener
        self.supervisor = Supervisor(workers)
        self.children: dict[int, tuple[int, socket.socket]] = {}  # by slot: the pid, and our end of the lifeline
        self.selector = selectors.DefaultSelector()
        self.signal_reader, self.signal_writer = socket.socketpair()

    def run(self) -> None:
        self.signal_writer.settimeout(0)
        signal.set_wakeup_fd(self.signal_writer.fileno())  # a signal becomes a byte to read; its handler does nothing
        for signum in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: None)
        self.selector.register(self.signal_reader, selectors.EVENT_READ)
        self.carry_out(self.supervisor.reconcile(time.monotonic()))
        while self.children:
            self.wait(min(60.0, self.supervisor.next_deadline() - time.monotonic()))
            self.reap()
            self.carry_out(self.supervisor.reconcile(time.monotonic()))

    def wait(self, timeout_s: float) -> None:
        for key, _ in self.selector.select(timeout_s):
            if key.fileobj is self.signal_reader:
                signums = self.signal_reader.recv(4096)
                if signal.SIGHUP in signums:
                    self.supervisor.reload()
                if signal.SIGTERM in signums or signal.SIGINT in signums:
                    self.supervisor.stop()
            elif self.children[key.data][1].recv(1):
                self.supervisor.ready(key.data, time.monotonic())
            else:
                self.selector.unregister(key.fileobj)  # the worker has exited; SIGCHLD follows

    def reap(self) -> None:
        for slot, (pid, lifeline) in list(self.children.items()):
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                with suppress(KeyError):  # unregistered above, unless the exit came before the end of the stream
                    self.selector.unregister(lifeline)
                lifeline.close()
                del self.children[slot]
                self.supervisor.exited(slot)

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
            self.reset_inherited(ours)
            serve(self.listener, theirs)
        except Exception:  # noqa: BLE001 - the child's border: no exception may reach the master's code
            traceback.print_exc()
        finally:
            os._exit(0)

    def reset_inherited(self, ours: socket.socket) -> None:
        """Close the master's descriptors in the child: an open copy of a lifeline would hide its death."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for signum in (
            signal.SIGHUP,
            signal.SIGINT,
        ):  # a terminal sends them to the whole group; the master acts on them
            signal.signal(signum, signal.SIG_IGN)
        self.selector.close()
        lifelines = (lifeline for _, lifeline in self.children.values())
        for descriptor in (ours, self.signal_reader, self.signal_writer, *lifelines):
            descriptor.close()


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0  # 0: the kernel chooses
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(0)  # a connection wakes every worker, and those that come too late must not block in accept
        print(f"master {os.getpid()} listens on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        Master(listener, workers=2).run()


if __name__ == "__main__":
    main()
