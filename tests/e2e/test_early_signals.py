"""Signals that arrive before asgid is up: none kills it by its default action, and one for a stop ends it cleanly.

Signals are handled from the first line of asgid on, not while Python starts. A test begins when /proc shows it.
"""

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import reduce
from operator import or_
from pathlib import Path

import pytest

from tests import daemon as daemons
from tests.daemon import Daemon, eventually

ENDING = ("TERM", "INT", "QUIT")
HARMLESS = ("HUP", "USR1", "USR2", "TTIN", "TTOU", "WINCH")
_ALL = sum(1 << (signal.Signals[f"SIG{name}"] - 1) for name in ENDING + HARMLESS)

#: Seconds since signals are handled: the master imports, binds, forks, boots its worker, and serves.
DELAYS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


@pytest.fixture
def launch_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Daemon]]:
    """Yield a function that starts `python -m asgid` and returns as soon as no signal can kill it."""
    monkeypatch.setattr(daemons, "ASGID", Path(sys.executable))
    with ExitStack() as stack:

        def launch() -> Daemon:
            arguments = ("-m", "asgid", "-c", "asgid.toml")
            daemon = stack.enter_context(Daemon(tmp_path, {"workers": {"count": 1}}, arguments)).launch()
            deadline = time.monotonic() + 10
            while True:  # without a pause: the test needs the first moment
                is_importing = "pydantic" in _read_proc(daemon.pid, "maps")
                if _handles_signals(daemon.pid):
                    return daemon
                assert not is_importing, "it imports slow modules while a signal can still kill it"
                assert daemon.is_running, daemon.log_text()
                assert time.monotonic() < deadline, "no guard against signals"

        yield launch


def _handles_signals(pid: int) -> bool:
    """Return whether the process blocks, catches or ignores each of the signals (proc_pid_status(5))."""
    masks = re.findall(r"^Sig(?:Blk|Cgt|Ign):\t([0-9a-f]+)$", _read_proc(pid, "status"), re.MULTILINE)
    handled = reduce(or_, (int(mask, 16) for mask in masks), 0)
    return handled & _ALL == _ALL


def _read_proc(pid: int, name: str) -> str:
    """Return the text of a file of a process in /proc, "" if the process has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize(
    ("delay", "ending"), [*((delay, "TERM") for delay in DELAYS), *((0.0, ending) for ending in ENDING[1:])]
)
def test_a_stop_during_the_start_takes_effect(launch_early: Callable[[], Daemon], delay: float, ending: str) -> None:
    """All other signals arrive just before. In each phase of the start, the exit code is 0 without a traceback."""
    daemon = launch_early()
    time.sleep(delay)  # not a wait: it selects the phase that is interrupted
    for name in (*HARMLESS, ending):
        daemon.signal(name)

    assert daemon.wait() == 0
    assert "Traceback" not in daemon.log_text()


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_signal_during_the_start_does_not_end_asgid(launch_early: Callable[[], Daemon], name: str) -> None:
    daemon = launch_early()
    daemon.signal(name)

    eventually(lambda: daemon.log_events("metrics") or not daemon.is_running)
    assert daemon.is_running
    assert daemon.probe("/livez")[0] == 200
    assert daemon.stop() == 0
