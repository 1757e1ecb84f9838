"""Workers that each misbehave in one way, and a master that is handed one of them: `python fakes.py NAME FILE`.

The master is the real one, with its real loop, real forks and real signals. A worker may be told more through
environment variables. The program blocks signals before it begins, as asgid's command line does, and says "blocked" on
its standard output; a test that has read this may send what it likes.
"""

import json
import os
import select
import signal
import socket
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
from asgid.master.workers.spawn import SIGNALS

_TICK_S = 0.05
#: A trial that does what the running program asks for.
PROVES_ITSELF = "from asgid.master.replace.new_program import TRIAL_FD, write_receipt; write_receipt(TRIAL_FD)"


class Fake:
    """A worker without an event loop, in pieces for others to leave out."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self._lifeline = socket.socket(fileno=assignment.lifeline_fd)
        self._decoder = wire.from_master()

    def say(self, data: bytes) -> None:
        with suppress(OSError):  # nobody listens any more
            self._lifeline.sendall(data)

    def say_ready(self) -> None:
        self.say(wire.encode(wire.Ready("asgi3")))

    def beat(self) -> None:
        self.assignment.row[HEARTBEAT_NS] = time.monotonic_ns()

    def hear(self) -> Iterator[wire.FromMaster]:
        """Beat, and yield what the master says, until it is gone."""
        while True:
            self.beat()
            if not select.select([self._lifeline], [], [], _TICK_S)[0]:
                continue
            if not (data := self._lifeline.recv(65536)):
                return
            yield from self._decoder.feed(data)

    def serve(self) -> int:
        """Do all that is asked of a worker but to serve."""
        self.say_ready()
        for message in self.hear():
            if isinstance(message, wire.Drain):
                break
        return 0


def well(assignment: Assignment) -> int:
    return Fake(assignment).serve()


def crashes_at_boot(assignment: Assignment) -> int:
    return 1


def says_why_it_cannot_boot(assignment: Assignment) -> int:
    Fake(assignment).say(wire.encode(wire.Failed("no module named shop")))
    return 3


def raises_at_boot(assignment: Assignment) -> int:
    raise RuntimeError(f"worker {assignment.slot} does not like its place")


def crashes_after_ready(assignment: Assignment) -> int:
    Fake(assignment).say_ready()
    return 1


def exits_with_zero(assignment: Assignment) -> int:
    Fake(assignment).say_ready()
    return 0


def hangs(assignment: Assignment) -> int:
    """Become ready, and never turn again."""
    fake = Fake(assignment)
    fake.say_ready()
    return _sleeps_in_here()


def _sleeps_in_here() -> int:
    while True:
        time.sleep(60)  # to be found in a stack


def never_drains(assignment: Assignment) -> int:
    """Beat for ever, deaf to TERM, to ABRT and to the wire."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    fake = Fake(assignment)
    fake.say_ready()
    while True:
        for _ in fake.hear():
            pass
        time.sleep(_TICK_S)  # the master is gone


def never_ready(assignment: Assignment) -> int:
    for _ in Fake(assignment).hear():
        pass
    return 0


def boots_when_let(assignment: Assignment) -> int:
    """Get ready when the file GATE exists."""
    gate = Path(os.environ["GATE"])
    while not gate.exists():
        time.sleep(_TICK_S)
    return Fake(assignment).serve()


def canary_fails(assignment: Assignment) -> int:
    """Serve in the first generation, fail in every other."""
    return well(assignment) if assignment.generation == 1 else says_why_it_cannot_boot(assignment)


def canary_never_ready(assignment: Assignment) -> int:
    return well(assignment) if assignment.generation == 1 else never_ready(assignment)


def says_ready_twice(assignment: Assignment) -> int:
    fake = Fake(assignment)
    fake.say_ready()
    return fake.serve()


def writes_garbage(assignment: Assignment) -> int:
    """Serve; but where USR1 would have log files reopened, slot 1 writes the bytes of GARBAGE on the lifeline."""
    fake = Fake(assignment)
    fake.say_ready()
    for message in fake.hear():
        if isinstance(message, wire.Drain):
            break
        if assignment.slot == 1:
            fake.say(os.environ["GARBAGE"].encode().decode("unicode_escape").encode("latin-1"))
    return 0


def shows_what_it_holds(assignment: Assignment) -> int:
    """Write what its descriptors are to the file HELD.SLOT, then serve."""
    held = {}
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one of the listing
            held[fd] = os.readlink(f"/proc/self/fd/{fd}")
    kept = [assignment.lifeline_fd, *(listener.fd for listener in assignment.listeners)]
    Path(f"{os.environ['HELD']}.{assignment.slot}").write_text(json.dumps({"held": held, "kept": kept}))
    return well(assignment)


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
    return well(assignment)


def prints_to_a_closed_stream(assignment: Assignment) -> int:
    """Leave text in a buffer that cannot be written: at the end it goes to nobody."""
    sys.stdout = open(os.open("/dev/full", os.O_WRONLY), "w")  # noqa: SIM115 - the end of the process closes it
    print("hello", end="")
    return 7


WORKERS: dict[str, WorkerMain] = {
    worker.__name__: worker
    for worker in (
        well,
        crashes_at_boot,
        says_why_it_cannot_boot,
        raises_at_boot,
        crashes_after_ready,
        exits_with_zero,
        hangs,
        never_drains,
        never_ready,
        boots_when_let,
        canary_fails,
        canary_never_ready,
        says_ready_twice,
        writes_garbage,
        shows_what_it_holds,
        leaves_an_orphan,
        prints_to_a_closed_stream,
    )
}


def main(name: str, file: str) -> int:
    """Run a master over the workers `name` with the settings in `file`; return how it ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if HANDOVER_VARIABLE not in os.environ:  # else the test has read it, and listens no more
        print("blocked", flush=True)
    path = Path(file).absolute()

    def load() -> Config:
        return parse(path.read_text(), path.name)

    again = (os.environ.get("NEXT_PROGRAM", sys.executable), __file__, name, file)
    program = Command(again, (sys.executable, "-c", os.environ.get("TRIAL", PROVES_ITSELF)))
    try:
        return int(run(load, load, WORKERS[name], program))
    except UnavailableError as error:
        print(error, file=sys.stderr)
        return int(ExitCode.UNAVAILABLE)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
