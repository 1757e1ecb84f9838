"""asgid in a terminal: signals that a terminal sends by itself have no effect, except the HUP at its end."""

import fcntl
import json
import os
import pty
import shutil
import signal
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from tests.client import Client, get, request
from tests.conftest import Start
from tests.daemon import APPS, Daemon, eventually

#: Makes a terminal the controlling one; asgid runs in its foreground group, or in its own group in the background.
_IN_TERMINAL = """
import os, signal, sys, termios
where, name, command = sys.argv[1], sys.argv[2], sys.argv[3:]
fd = os.open(name, os.O_RDWR)  # a session leader without a controlling terminal gets this one
attributes = termios.tcgetattr(fd)
if where != "streams":
    attributes[3] |= termios.TOSTOP
termios.tcsetattr(fd, termios.TCSANOW, attributes)
if where == "streams":
    os.dup2(fd, 0)
    os.dup2(fd, 1)
os.close(fd)
if where == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
if where != "background":
    os.execv(command[0], command)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)  # as a shell does for `asgid ... &`
    os.execv(command[0], command)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


class Terminal:
    """A pseudo-terminal: the test has the end of the emulator, and asgid gets the other one."""

    def __init__(self) -> None:
        self._end, self._other = pty.openpty()
        self.name = os.ttyname(self._other)
        self._shown = b""
        os.set_blocking(self._end, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def attach(self, daemon: Daemon, where: str) -> Daemon:
        daemon.prefix = (sys.executable, "-c", _IN_TERMINAL, where, self.name)
        return daemon

    def resize(self, rows: int) -> None:
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 100, 0, 0))

    def shown(self) -> str:
        """Return all text that the terminal shows."""
        with suppress(BlockingIOError):
            self._shown += os.read(self._end, 65536)
        return self._shown.decode()

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of this event that the terminal shows."""
        whole = self.shown().rpartition("\n")[0].splitlines()
        lines = [json.loads(line) for line in whole if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._other)

    def close(self) -> None:
        for fd in (self._other, self._end):
            with suppress(OSError):
                os.close(fd)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal() as terminal:
        yield terminal


@pytest.fixture
def prepare(launch: Start, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Launch a daemon in the terminal: `prepare("foreground", log={...})`."""

    def start(where: str, target: str = "hello:application", **tables: Any) -> Daemon:
        with monkeypatch.context() as patch:
            before = Daemon.launch
            patch.setattr(Daemon, "launch", lambda daemon: before(terminal.attach(daemon, where)))
            return launch(target, **tables)

    return start


def serves(daemon: Daemon) -> bool:
    return daemon.is_running and len(daemon.log_events("worker ready")) == 2


def test_a_resize_drains_no_worker(prepare: Start, terminal: Terminal) -> None:
    """The terminal sends WINCH at each resize; the log mentions once that it is ignored."""
    daemon = prepare("foreground")
    eventually(lambda: serves(daemon))
    terminal.resize(40)
    eventually(lambda: daemon.log_events("WINCH ignored: a terminal sends it at each resize"))
    terminal.resize(50)
    daemon.signal("USR1")
    eventually(lambda: daemon.log_events("log files reopened"))

    assert len(daemon.log_events("WINCH ignored: a terminal sends it at each resize")) == 1
    assert daemon.log_events("worker draining") == []
    assert get(daemon.address()).status == 200
    assert daemon.stop() == 0
    assert daemon.log_events("stopping")[0]["at_once"] == "press Ctrl-C again"


def test_a_background_group_may_write_to_its_terminal(prepare: Start, terminal: Terminal) -> None:
    """Also under `stty tostop`. The master does not spin, the number of workers stays, and TERM takes effect."""
    daemon = prepare(
        "background",
        "prints:application",
        log={"output": terminal.name, "format": "json"},
        app={"directory": str(APPS), "env": {"TERMINAL": terminal.name}},
    )
    eventually(lambda: len(terminal.events("worker ready")) == 2)
    master = psutil.Process(int(terminal.events("running")[0]["pid"]))
    used = sum(master.cpu_times()[:2])
    time.sleep(0.5)  # the measured period
    used = sum(master.cpu_times()[:2]) - used
    answer = get(str(terminal.events("listening")[0]["address"]))
    master.send_signal(signal.SIGTERM)

    assert daemon.wait() == 0
    assert (answer.status, answer.body) == (200, b"written")
    assert used < 0.25
    assert [line["reason"] for line in terminal.events("worker draining")] == ["shutdown"] * 2


def test_a_terminal_that_closes_stops_the_server(prepare: Start, terminal: Terminal) -> None:
    """Otherwise a server that no terminal shows would keep its port."""
    daemon = prepare("foreground")
    eventually(lambda: serves(daemon))
    terminal.close()

    assert daemon.wait() == 0
    assert daemon.log_events("the terminal has closed")
    assert daemon.log_events("stopping")[0]["signal"] == "SIGHUP"
    assert daemon.log_events("reload started") == []


def test_a_server_under_nohup_outlives_its_terminal(prepare: Start, terminal: Terminal) -> None:
    """HUP is a reload then, as it is without a terminal."""
    daemon = prepare("nohup")
    eventually(lambda: serves(daemon))
    terminal.close()

    assert daemon.reload()["event"] == "reload committed"
    assert daemon.stop() == 0


def test_hup_reloads_a_background_job_after_its_terminal_has_closed(prepare: Start, terminal: Terminal) -> None:
    """HUP is not a stop if the terminal closed long ago: a shell that ends does not signal its background jobs."""
    daemon = prepare("background")
    eventually(lambda: serves(daemon))
    master = int(daemon.log_events("running")[0]["pid"])
    terminal.close()
    time.sleep(2.5)  # after that time HUP does not count as the end of the terminal
    os.kill(master, signal.SIGHUP)
    verdict = eventually(lambda: daemon.log_events("reload committed", "stopping"))[0]
    os.kill(master, signal.SIGTERM)

    assert daemon.wait() == 0
    assert verdict["event"] == "reload committed"


def test_a_debugger_is_named_and_the_terminal_is_restored(prepare: Start, terminal: Terminal) -> None:
    """A worker killed in a debugger leaves raw mode behind; the log names the settings that would keep it alive."""
    daemon = prepare(
        "foreground",
        "debugs:application",
        app={"directory": str(APPS), "env": {"TERMINAL": terminal.name}},
        timeouts={"blocked": "0.5s", "heartbeat": "3s"},
    )
    eventually(lambda: serves(daemon))
    before = terminal.modes()
    with Client(daemon.address()) as client:
        client.send(request("GET", "/debug"))
        line = eventually(lambda: daemon.log_events("a debugger holds the event loop"))[0]
        assert terminal.modes() != before
        (end,) = eventually(lambda: daemon.log_events("worker exited"))

    assert line["keep_it"] == "--set timeouts.blocked=off --set timeouts.heartbeat=off"
    assert end["reason"] == "blocked"
    eventually(lambda: terminal.modes() == before)
    assert daemon.log_events("event loop blocked") == []
    assert daemon.stop() == 0


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory with the application that every user may read."""
    with tempfile.TemporaryDirectory(prefix="asgid-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copy(APPS / "typist.py", directory)
        yield directory


def rights_to(terminal: Terminal, daemon: Daemon) -> dict[str, Any]:
    eventually(lambda: serves(daemon))
    found: dict[str, Any] = json.loads(get(daemon.address()).body)
    eventually(lambda: "a line of output" in terminal.shown())
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_worker_of_another_user_can_neither_type_in_the_terminal_nor_read_it(
    prepare: Start, terminal: Terminal, public: Path
) -> None:
    """Otherwise it could type commands for root's shell. Its output is shown, and it stays in the process group."""
    daemon = prepare("streams", "typist:application", app={"directory": str(public)}, process={"user": "nobody"})

    assert rights_to(terminal, daemon) == {"readable": 0, "typed": 0, "input": "null"}
    assert {os.getpgid(pid) for pid in daemon.workers()} == {os.getpgid(daemon.pid)}
    assert daemon.stop() == 0


def test_a_worker_of_the_same_user_keeps_the_terminal(prepare: Start, terminal: Terminal, public: Path) -> None:
    """`breakpoint()` reads its commands there."""
    daemon = prepare("streams", "typist:application", app={"directory": str(public)})
    found = rights_to(terminal, daemon)

    assert found["input"] == "other"
    assert found["readable"] >= 3  # standard input, standard output, /dev/tty
    assert daemon.stop() == 0
