"""Signals that come before asgid is up: none kills it by default action, and one that asks it to stop is obeyed.

The only moments without guard are those before Python runs our first line; a test begins when /proc shows the guard.
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

#: Seconds from the first guarded moment: while it imports, binds, forks, boots its worker, and serves.
DELAYS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


@pytest.fixture
def launch_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Daemon]]:
    """Start `python -m asgid` and return in the first moment in which no signal can kill it."""
    monkeypatch.setattr(daemons, "ASGID", Path(sys.executable))
    with ExitStack() as stack:

        def launch() -> Daemon:
            arguments = ("-m", "asgid", "-c", "asgid.toml")
            daemon = stack.enter_context(Daemon(tmp_path, {"workers": {"count": 1}}, arguments)).launch()
            deadline = time.monotonic() + 10
            while True:  # without a pause, for the moment is what this is about
                is_importing = "pydantic" in _of_process(daemon.pid, "maps")
                if _is_guarded(daemon.pid):
                    return daemon
                assert not is_importing, "it imports what is slow while a signal can still kill it"
                assert daemon.is_running, daemon.log_text()
                assert time.monotonic() < deadline, "no guard against signals"

        yield launch


def _is_guarded(pid: int) -> bool:
    """Whether every signal of ours is blocked, caught or ignored by the process (proc_pid_status(5))."""
    masks = re.findall(r"^Sig(?:Blk|Cgt|Ign):\t([0-9a-f]+)$", _of_process(pid, "status"), re.MULTILINE)
    guarded = reduce(or_, (int(mask, 16) for mask in masks), 0)
    return guarded & _ALL == _ALL


def _of_process(pid: int, name: str) -> str:
    """Return what /proc says of a process, "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize(
    ("delay", "ending"), [*((delay, "TERM") for delay in DELAYS), *((0.0, ending) for ending in ENDING[1:])]
)
def test_a_stop_is_obeyed_whenever_it_comes(launch_early: Callable[[], Daemon], delay: float, ending: str) -> None:
    """After all other signals at once, in whatever it was doing: the exit code is 0, and nothing is left behind."""
    daemon = launch_early()
    time.sleep(delay)  # waits for nothing: it chooses what is interrupted
    for name in (*HARMLESS, ending):
        daemon.signal(name)

    assert daemon.wait() == 0
    assert "Traceback" not in daemon.log_text()


@pytest.mark.parametrize("name", HARMLESS)
def test_no_early_signal_ends_it(launch_early: Callable[[], Daemon], name: str) -> None:
    """It comes up and answers, and only then stops as asked."""
    daemon = launch_early()
    daemon.signal(name)

    eventually(lambda: daemon.log_events("metrics") or not daemon.is_running)
    assert daemon.is_running
    assert daemon.probe("/livez")[0] == 200
    assert daemon.stop() == 0
