"""No burst of signals kills a process, whatever the size of a signal frame on its processor."""

import ctypes
import json
import signal
import subprocess
import sys

import pytest

from asgid import faults
from asgid.faults import frame_bytes, stack_bytes

#: The signals of faulthandler, those that no program can handle, and CONT, which discards TSTP, TTIN and TTOU.
_LEFT_OUT = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGKILL", "SIGSTOP", "SIGCONT"}

#: Every signal that a program can handle is pending at once: 56 frames. That exceeds the stack of faulthandler on any
#: processor, so the test does not depend on this one.
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
def test_all_signals_at_once_kill_no_process(under: str) -> None:
    """Each handler runs, in the process and in its child. Under gunicorn a worker only registers a dump."""
    dump = "import faulthandler; from asgid.assignment import DUMP; faulthandler.register(DUMP, chain=True)"
    done = _burst(
        "from asgid import faults; " + ("faults.enable(2)" if under == "asgid" else f"{dump}; faults.make_room()")
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert [True, 0] == json.loads(done.stdout)


def test_the_stack_of_faulthandler_is_too_small_for_the_burst() -> None:
    """So the test above proves something: a process that only enables faulthandler is killed."""
    assert _burst("import faulthandler; faulthandler.enable(2)").returncode == -signal.SIGSEGV


@pytest.mark.parametrize("frame", [576, 1776, 3376, 11008, frame_bytes()])
def test_the_stack_has_room_for_a_frame_of_every_signal(frame: int) -> None:
    """A frame takes 3,376 bytes with AVX-512, and 11,008 with AMX; the last case is this machine's processor."""
    beside_frames = stack_bytes(frame) - signal.NSIG * (frame + 128)

    assert beside_frames >= 2 * 16384
    assert stack_bytes(frame) < 2**20


def test_the_kernel_uses_the_stack_of_the_computed_size() -> None:
    """The second call, which every worker makes after its fork, keeps it."""
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


def test_an_old_kernel_gets_a_stack_for_the_largest_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel does not report the size, the stack suits the processor with the largest registers."""
    monkeypatch.setattr(faults, "_libc", type("Libc", (), {"getauxval": lambda *_: ctypes.c_ulong(0).value}))

    assert frame_bytes() >= 11008
