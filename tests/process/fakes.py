"""Workers that each misbehave in one way, and a real master over one of them: `python fakes.py NAME FILE`.

The master has its real loop, real forks and real signals. Environment variables configure a worker. The program blocks
signals first, as asgid's command line does, and prints "blocked"; after that a test may send any signal.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from setproctitle import setproctitle

from asgid import wire
from asgid.assignment import Assignment, WorkerMain
from asgid.board import HEARTBEAT_NS
from asgid.config import Config, parse
from asgid.errors import ExitCode, UnavailableError
from asgid.master.main import run
from asgid.master.replace.new_program import HANDOVER_VARIABLE, Command
from asgid.master.system.signals import SIGNALS

_TICK_S = 0.05
#: A trial that writes its receipt for the handover.
WRITES_RECEIPT = "from asgid.master.replace.new_program import TRIAL_FD, write_receipt; write_receipt(TRIAL_FD)"


class Fake:
    """The parts of a worker without an event loop; each fake leaves some of them out."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self._lifeline = assignment.lifeline
        self._decoder = wire.from_master()

    def send(self, data: bytes) -> None:
        with suppress(OSError):  # the master is gone
            self._lifeline.write(data)

    def send_ready(self) -> None:
        self.send(wire.encode(wire.Ready("asgi3")))

    def beat(self) -> None:
        self.assignment.row[HEARTBEAT_NS] = time.monotonic_ns()

    def messages(self) -> Iterator[wire.FromMaster]:
        """Beat, and yield the master's messages, until it is gone."""
        poll = select.poll()
        poll.register(self._lifeline.reader, select.POLLIN)
        while True:
            self.beat()
            if not poll.poll(_TICK_S * 1000):
                continue
            if not (data := self._lifeline.read()):
                return
            yield from self._decoder.feed(data)

    def serve(self) -> int:
        """Do everything that a worker does except serving clients."""
        self.send_ready()
        for message in self.messages():
            if isinstance(message, wire.Drain):
                break
        return 0


def healthy(assignment: Assignment) -> int:
    return Fake(assignment).serve()


def crashes_at_boot(assignment: Assignment) -> int:
    return 1


def reports_a_failed_boot(assignment: Assignment) -> int:
    Fake(assignment).send(wire.encode(wire.Failed("no module named shop")))
    return 3


def raises_at_boot(assignment: Assignment) -> int:
    raise RuntimeError(f"worker {assignment.slot} refuses its slot")


def crashes_after_ready(assignment: Assignment) -> int:
    Fake(assignment).send_ready()
    return 1


def exits_with_zero(assignment: Assignment) -> int:
    Fake(assignment).send_ready()
    return 0


def hangs(assignment: Assignment) -> int:
    """Become ready, and never beat again."""
    fake = Fake(assignment)
    fake.send_ready()
    return _sleeps_in_here()


def _sleeps_in_here() -> int:
    while True:
        time.sleep(60)  # the stack dump shows this line


def never_drains(assignment: Assignment) -> int:
    """Beat forever, and ignore TERM, ABRT and every message."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    fake = Fake(assignment)
    fake.send_ready()
    while True:
        for _ in fake.messages():
            pass
        time.sleep(_TICK_S)  # the master is gone


def never_ready(assignment: Assignment) -> int:
    for _ in Fake(assignment).messages():
        pass
    return 0


def boots_at_a_gate(assignment: Assignment) -> int:
    """Become ready when the file GATE exists."""
    gate = Path(os.environ["GATE"])
    while not gate.exists():
        time.sleep(_TICK_S)
    return Fake(assignment).serve()


def canary_fails(assignment: Assignment) -> int:
    """Serve in the first generation, fail in every other."""
    return healthy(assignment) if assignment.generation == 1 else reports_a_failed_boot(assignment)


def canary_never_ready(assignment: Assignment) -> int:
    return healthy(assignment) if assignment.generation == 1 else never_ready(assignment)


def sends_ready_twice(assignment: Assignment) -> int:
    fake = Fake(assignment)
    fake.send_ready()
    return fake.serve()


def writes_garbage(assignment: Assignment) -> int:
    """Serve; but when it is told to reopen its log files, slot 1 writes the bytes of GARBAGE to its lifeline."""
    fake = Fake(assignment)
    fake.send_ready()
    for message in fake.messages():
        if isinstance(message, wire.Drain):
            break
        if assignment.slot == 1:
            fake.send(os.environ["GARBAGE"].encode().decode("unicode_escape").encode("latin-1"))
    return 0


def lists_its_descriptors(assignment: Assignment) -> int:
    """Write the targets of its descriptors to the file HELD.SLOT, then serve."""
    held = {}
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the descriptor of the listing itself
            held[fd] = os.readlink(f"/proc/self/fd/{fd}")
    kept = [assignment.lifeline.reader, assignment.lifeline.writer, *(listener.fd for listener in assignment.listeners)]
    Path(f"{os.environ['HELD']}.{assignment.slot}").write_text(json.dumps({"held": held, "kept": kept}))
    return healthy(assignment)


def leaves_an_orphan(assignment: Assignment) -> int:
    """Serve; slot 0 starts a process, titled "orphan", whose parent is gone."""
    if assignment.slot == 0:
        parent = os.fork()
        if parent == 0:
            if os.fork() == 0:
                setproctitle("orphan")
                signal.pause()
            os._exit(0)
        os.waitpid(parent, 0)
    return healthy(assignment)


def leaves_text_that_cannot_be_written(assignment: Assignment) -> int:
    """Leave text in a buffer that cannot be written at the exit."""
    sys.stdout = open(os.open("/dev/full", os.O_WRONLY), "w")  # noqa: SIM115 - the end of the process closes it
    print("hello", end="")
    return 7


WORKERS: dict[str, WorkerMain] = {
    worker.__name__: worker
    for worker in (
        healthy,
        crashes_at_boot,
        reports_a_failed_boot,
        raises_at_boot,
        crashes_after_ready,
        exits_with_zero,
        hangs,
        never_drains,
        never_ready,
        boots_at_a_gate,
        canary_fails,
        canary_never_ready,
        sends_ready_twice,
        writes_garbage,
        lists_its_descriptors,
        leaves_an_orphan,
        leaves_text_that_cannot_be_written,
    )
}


def main(name: str, file: str) -> int:
    """Run a master over the workers `name` with the settings in `file`. Return its exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if HANDOVER_VARIABLE not in os.environ:  # otherwise the test has read it, and has closed the pipe
        print("blocked", flush=True)
    path = Path(file).absolute()

    def load() -> Config:
        return parse(path.read_text(), path.name)

    again = (os.environ.get("NEXT_PROGRAM", sys.executable), __file__, name, file)
    program = Command(again, (sys.executable, "-c", os.environ.get("TRIAL", WRITES_RECEIPT)))
    try:
        return int(run(load, load, WORKERS[name], program))
    except UnavailableError as error:
        print(error, file=sys.stderr)
        return int(ExitCode.UNAVAILABLE)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
