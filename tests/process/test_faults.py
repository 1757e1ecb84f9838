"""No burst of signals ends a process, however large the frame that its processor needs for each."""

import ctypes
import json
import signal
import subprocess
import sys

import pytest

from asgid import faults
from asgid.faults import frame_bytes, stack_bytes

#: Those of faulthandler, those that no program can handle, and CONT, which takes back TSTP, TTIN and TTOU.
_LEFT_OUT = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGKILL", "SIGSTOP", "SIGCONT"}

#: Every signal that a program can handle is pending at once: 56 frames. That is more than faulthandler's own stack
#: holds on any processor, so this test does not depend on the one it runs on.
_BURST = """
import json, os, signal
{enable}
numbers = {numbers}
handled = []
for number in numbers:
    signal.signal(number, lambda number, _: handled.append(number))
def burst():
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
burst()
child = os.fork()
if child == 0:
    burst()
    os._exit(0)
print(json.dumps([sorted(set(handled)) == numbers, os.waitpid(child, 0)[1]]))
"""


def _burst(enable: str) -> subprocess.CompletedProcess[str]:
    numbers = sorted(int(number) for number in signal.valid_signals() if _name(number) not in _LEFT_OUT)
    program = _BURST.format(enable=enable, numbers=numbers)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)


def _name(number: int) -> str:
    return signal.Signals(number).name if number in list(signal.Signals) else ""


@pytest.mark.parametrize("under", ["asgid", "gunicorn"])
def test_every_signal_at_once_ends_no_process(under: str) -> None:
    """Each handler runs, in the process and in a child that it forks. Under gunicorn a worker only registers a dump."""
    dump = "import faulthandler; from asgid.assignment import DUMP; faulthandler.register(DUMP, chain=True)"
    done = _burst(
        "from asgid import faults; " + ("faults.enable(2)" if under == "asgid" else f"{dump}; faults.make_room()")
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert [True, 0] == json.loads(done.stdout)


def test_the_burst_is_more_than_the_stack_of_faulthandler_holds() -> None:
    """The test above proves something: the same burst ends a process that only calls faulthandler."""
    assert _burst("import faulthandler; faulthandler.enable(2)").returncode == -signal.SIGSEGV


@pytest.mark.parametrize("frame", [576, 1776, 3376, 11008, frame_bytes()])
def test_the_stack_holds_a_frame_of_every_signal(frame: int) -> None:
    """With AVX-512 a frame takes 3,376 bytes, with AMX 11,008; the last case is the processor of this machine."""
    beside_frames = stack_bytes(frame) - signal.NSIG * (frame + 128)

    assert beside_frames >= 2 * 16384
    assert stack_bytes(frame) < 2**20


def test_the_kernel_has_the_stack_that_was_computed() -> None:
    """And the second call, which every worker makes after its fork, keeps it."""
    program = """
import ctypes
from asgid import faults
for _ in range(2):
    faults.enable(2)
    found = faults._Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    print(found.pointer, found.size)
"""
    lines = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert lines[:2] == lines[2:]
    assert int(lines[1]) == stack_bytes(frame_bytes())


def test_an_old_kernel_gets_the_largest_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not tell, the stack is made for the processor with the largest registers."""
    monkeypatch.setattr(faults, "_libc", type("Libc", (), {"getauxval": lambda *_: ctypes.c_ulong(0).value}))

    assert frame_bytes() >= 11008
