"""USR2 replaces the master's program and keeps its pid, sockets and workers; a failed trial changes nothing."""

import os
import random
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests import daemon as daemons
from tests.client import Client, Load, get, request
from tests.conftest import Start
from tests.daemon import WITHIN_S, Daemon, eventually, is_alive

PACKAGE = Path(__file__).parents[2] / "asgid"


class Releases:
    """Copies of asgid side by side, and the link `current`, as a deployment swaps it.

    While the file `held` exists, a program that takes over waits before its start, so that a test can act between the
    two programs.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.held = directory / "held"
        self.program = directory / "asgid"
        self.program.write_text(
            f"#!{sys.executable}\n"
            f"import os, pathlib, sys, time\n"
            f"while 'ASGID_HANDOVER' in os.environ and pathlib.Path({str(self.held)!r}).exists():\n"
            f"    time.sleep(0.01)\n"
            f"sys.path.insert(0, {str(directory / 'current')!r})\n"
            f"from asgid.cli import entry\n"
            f"entry()\n"
        )
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)

    def make(self, version: str) -> Path:
        """Copy the package as another version, and return the directory of its modules."""
        package = self.directory / version / "asgid"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        change(package / "__init__.py", '__version__ = "', f'__version__ = "{version}+')
        return package

    @contextmanager
    def between(self, daemon: Daemon) -> Iterator[None]:
        """Send USR2, and run the `with` block after the old program has ended and before the new one starts."""
        self.held.touch()
        daemon.signal("USR2")
        eventually(lambda: daemon.log_events("replacing the program"))
        yield
        self.held.unlink()

    def use(self, version: str) -> None:
        link = self.directory / "next"
        link.symlink_to(self.directory / version)
        link.replace(self.directory / "current")


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, f"{file.name} does not hold {old!r}"
    file.write_text(text.replace(old, new))


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Releases:
    """Two releases; daemons run the first one."""
    place = tmp_path / "releases"
    place.mkdir()
    releases = Releases(place)
    for version in ("one", "two"):
        releases.make(version)
    releases.use("one")
    monkeypatch.setattr(daemons, "ASGID", releases.program)
    return releases


def version_of(daemon: Daemon) -> str:
    return str(daemon.status()["version"]).partition("+")[0]


def generations(daemon: Daemon) -> set[int]:
    return {worker["generation"] for worker in daemon.status()["workers"]}


def is_upgraded(daemon: Daemon, number: int = 1) -> bool:
    """Return whether the program was replaced `number` times, and every worker after the last time."""
    replaced = daemon.log_events("program replaced")
    committed = daemon.log_events("reload committed")
    return len(replaced) >= number and bool(committed) and committed[-1]["time"] > replaced[-1]["time"]


def unless_cut_off(ask: Callable[[], bool]) -> bool:
    """Return the result of `ask`; False if the program was replaced during its request."""
    try:
        return ask()
    except ConnectionError:
        return False


def descriptors(daemon: Daemon) -> int:
    """Return the number of the master's open descriptors; a client of its endpoint counts until it is closed."""
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def series(daemon: Daemon) -> dict[daemons.Series, float]:
    """Return every counter, by name and labels."""
    return {key: value for key, value in daemon.metrics().items() if key[0].endswith(("_total", "_count", "_bucket"))}


def test_a_new_version_takes_over_under_load_and_no_request_is_lost(releases: Releases, start: Start, tmp_path: Path):
    path, pid_file = tmp_path / "socket", tmp_path / "asgid.pid"
    daemon = start(
        "pid:application",
        listen=[{"bind": "127.0.0.1:0"}, {"bind": f"unix:{path}"}],
        process={"pid_file": str(pid_file)},
    )
    old, inode = set(daemon.workers()), path.stat().st_ino
    with Load(daemon.address()) as load, Load(f"unix:{path}", connections=1) as other:
        eventually(lambda: len(load.seconds) > 200)
        before = series(daemon)
        releases.use("two")
        daemon.signal("USR2")
        eventually(lambda: is_upgraded(daemon))
        served = len(load.seconds)
        eventually(lambda: len(load.seconds) > served + 200)

    assert (load.failures, other.failures) == ([], [])
    assert max(load.seconds + other.seconds) < 5
    assert version_of(daemon) == "two"
    assert daemon.log_events("program replaced")[0]["pid"] == daemon.pid
    eventually(lambda: generations(daemon) == {2})
    assert not old & set(daemon.workers())
    assert daemon.metric("asgid_build_info", version=daemon.status()["version"]) == 1
    after = series(daemon)
    assert {key: value for key, value in before.items() if after[key] < value} == {}
    assert path.stat().st_ino == inode
    assert int(pid_file.read_text()) == daemon.pid
    assert daemon.stop() == 0
    assert not pid_file.exists()
    assert not path.exists()


def test_a_request_that_began_before_an_upgrade_is_finished(releases: Releases, start: Start, tmp_path: Path):
    """The old worker finishes it, and drains under another program than the one that forked the worker."""
    gate = tmp_path / "gate"
    timeouts = {"graceful": "5m"}
    daemon = start("gate:application", app={"env": {"GATE": str(gate)}}, workers={"count": 1}, timeouts=timeouts)
    with Client(daemon.address()) as client:
        client.send(request("GET", "/"))
        assert client.head().status == 200
        releases.use("two")
        daemon.signal("USR2")
        eventually(lambda: is_upgraded(daemon))
        gate.touch()

        assert b"".join(iter(client.chunk, b"")) == b"held most=1"
    eventually(lambda: len(daemon.workers()) == 1)
    assert daemon.log_events("worker exited")[0]["code"] == 0


def test_upgrades_can_follow_each_other(releases: Releases, start: Start):
    """No descriptor leaks from one program to the next; HUP, TTIN, a crash and a stop work after the last."""
    daemon = start("pid:application")
    first = descriptors(daemon)
    for number, version in enumerate(("two", "one", "two"), start=1):
        releases.use(version)
        daemon.signal("USR2")
        eventually(partial(is_upgraded, daemon, number))
        eventually(lambda: len(daemon.workers()) == 2)
        assert version_of(daemon) == version
        eventually(lambda: descriptors(daemon) <= first)

    assert daemon.reload()["event"] == "reload committed"
    daemon.signal("TTIN")
    eventually(lambda: len(daemon.workers()) == 3)
    os.kill(daemon.workers()[0], 9)
    eventually(lambda: daemon.log_events("worker exited", reason="signal"))
    eventually(lambda: len(daemon.workers()) == 3)
    assert daemon.stop() == 0


class LoggingDaemon(Daemon):
    """A daemon that logs to an absolute path in its own directory; `log_events` finds those lines too."""

    def __init__(self, directory: Path, **tables: object) -> None:
        self.logs = directory / "logs"
        self.logs.mkdir(parents=True)
        (directory / "stderr").touch()
        (self.logs / "asgid.log").hardlink_to(directory / "stderr")
        log = {"output": str(self.logs / "asgid.log"), "access": {"output": str(directory / "access.log")}}
        settings = {"app": {"target": "pid:application"}, "workers": {"count": 1}, "log": log}
        super().__init__(directory, settings | tables, ("-c", str(directory / "asgid.toml")))


def test_settings_with_absolute_paths_need_no_working_directory(releases: Releases, tmp_path: Path):
    """A deployment has removed the directory of the start: workers are still replaced, and HUP and USR2 work."""
    release = tmp_path / "release"
    release.mkdir()
    with LoggingDaemon(tmp_path / "home") as daemon:
        daemon.prefix = ("env", f"--chdir={release}")
        daemon.start()
        release.rmdir()
        os.kill(daemon.workers()[0], 9)
        eventually(lambda: len(daemon.log_events("worker ready")) == 2)

        assert daemon.reload()["event"] == "reload committed"

        releases.use("two")
        daemon.signal("USR2")
        eventually(lambda: is_upgraded(daemon))

        assert version_of(daemon) == "two"
        assert [event["signal"] for event in daemon.log_events(level="error")] == ["SIGKILL"]


def test_a_log_that_cannot_be_opened_again_fails_the_trial(releases: Releases, tmp_path: Path):
    """The running program has the file open, and keeps it."""
    with LoggingDaemon(tmp_path / "home") as daemon:
        daemon.start()
        old = daemon.workers()
        shutil.rmtree(daemon.logs)
        daemon.signal("USR2")
        refused = eventually(lambda: daemon.log_events("upgrade refused"))[0]

        assert "log.output: the file in force cannot be opened: [Errno 2] No such file" in refused["reason"]
        assert daemon.workers() == old


def test_a_log_that_is_removed_between_trial_and_takeover_ends_no_process(releases: Releases, tmp_path: Path):
    """Standard error replaces it; the old workers continue to serve, because the reload fails for the same reason."""
    with LoggingDaemon(tmp_path / "home") as daemon:
        daemon.start()
        old = daemon.workers()
        with releases.between(daemon):
            shutil.rmtree(daemon.logs)
        eventually(lambda: daemon.log_events("reload refused"))
        warnings = daemon.log_events("log.output cannot be opened; standard error takes its place", level="warning")

        assert [f"[Errno 2] No such file or directory: '{daemon.logs / 'asgid.log'}'"] == [
            event["problem"] for event in warnings
        ]
        assert daemon.workers() == old
        assert int(get(daemon.address()).body) in old


# Upgrades that must fail without harm. `broken` makes the fault; `words` are in the reason that the log gives.


def a_program_that_does_not_start(releases: Releases, daemon: Daemon) -> None:
    change(releases.directory / "two" / "asgid" / "cli.py", "def main(", "def main(:")


def a_program_that_cannot_boot_the_application(releases: Releases, daemon: Daemon) -> None:
    change(releases.directory / "two" / "asgid" / "worker" / "app" / "loader.py", "def load(", "def unload(")


def a_program_with_another_board(releases: Releases, daemon: Daemon) -> None:
    change(releases.directory / "two" / "asgid" / "board.py", '_place("STARTED")', '_place("STARTED", 2)')


def a_program_without_a_handover(releases: Releases, daemon: Daemon) -> None:
    change(releases.directory / "two" / "asgid" / "cli.py", '"--takes-over"', '"--takes-nothing"')


def a_program_that_does_not_exist(releases: Releases, daemon: Daemon) -> None:
    releases.program.unlink()


def a_program_without_an_interpreter(releases: Releases, daemon: Daemon) -> None:
    releases.program.write_text("#!/no/such/interpreter\n")


def a_program_that_does_nothing(releases: Releases, daemon: Daemon) -> None:
    releases.program.write_text("#!/bin/sh\nexit 0\n")


def a_file_that_is_wrong(releases: Releases, daemon: Daemon) -> None:
    daemon.configure(workers={"cuont": 3})


def an_application_that_does_not_import(releases: Releases, daemon: Daemon) -> None:
    daemon.configure(app={"target": "raises_at_import:application"})


def an_application_that_does_not_start(releases: Releases, daemon: Daemon) -> None:
    daemon.configure(app={"target": "startup_fails:application"})


REFUSED = [
    (a_program_that_does_not_start, "SyntaxError: invalid syntax"),
    (a_program_that_cannot_boot_the_application, "exited with code"),
    (a_program_with_another_board, "cannot take over; restart instead: the board has another layout: the cells of"),
    (a_program_without_a_handover, "exited with code 64"),
    (a_program_that_does_not_exist, "cannot be run: No such file or directory"),
    (a_program_without_an_interpreter, "cannot be run: No such file or directory"),
    (a_program_that_does_nothing, "wrote no receipt for the handover"),
    (a_file_that_is_wrong, "cuont"),
    (an_application_that_does_not_import, "the tables of this application were never made"),
    (an_application_that_does_not_start, "the database of this application is down"),
]


@pytest.mark.parametrize(("broken", "words"), REFUSED, ids=[case[0].__name__ for case in REFUSED])
def test_an_upgrade_that_fails_its_trial_changes_nothing(releases: Releases, start: Start, broken, words: str):
    """The running program keeps its workers, and the log gives the reason why the new one was refused."""
    daemon = start("pid:application", workers={"count": 1})
    old = daemon.workers()
    broken(releases, daemon)
    releases.use("two")
    with Load(daemon.address(), connections=1) as load:
        daemon.signal("USR2")
        refused = eventually(lambda: daemon.log_events("upgrade refused"))[0]
        served = len(load.seconds)
        eventually(lambda: len(load.seconds) > served + 50)

    assert words in refused["reason"]
    assert load.failures == []
    assert daemon.workers() == old
    assert version_of(daemon) == "one"
    assert daemon.log_events("worker started", "replacing the program")[1:] == []
    eventually(lambda: len(daemon.processes()) == 2)


def test_no_application_inherits_the_handover(releases: Releases, start: Start, tmp_path: Path):
    """Neither in the trial, where it could forge the receipt, nor in a worker: the file also contains the settings."""
    module, found = tmp_path / "looks.py", tmp_path / "found"
    module.write_text(
        "import glob, os\n"
        f"with open({str(found)!r}, 'a') as file:\n"
        "    for link in glob.glob('/proc/self/fd/*'):\n"
        "        if os.path.lexists(link):\n"
        "            print(os.readlink(link), file=file)\n"
        "    print('end', file=file)\n"
        "async def application(scope, receive, send): raise NotImplementedError\n"  # declines every scope
    )
    daemon = start("looks:application", app={"directory": str(tmp_path)}, workers={"count": 1})
    releases.use("two")
    daemon.signal("USR2")
    eventually(lambda: is_upgraded(daemon))
    held = found.read_text().splitlines()

    assert held.count("end") >= 3  # before, in the trial, and after
    assert [file for file in held if "handover" in file] == []
    assert daemon.stop() == 0


# Other events during an upgrade


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT"])
def test_a_stop_between_the_two_programs_is_obeyed(releases: Releases, start: Start, name: str):
    daemon = start("pid:application", workers={"count": 1})
    with releases.between(daemon):
        daemon.signal(name)

    assert daemon.wait() == 0
    assert daemon.log_events("stopping")[0]["signal"] == f"SIG{name}"
    assert not daemon.processes()


def test_no_signal_at_any_moment_of_an_upgrade_is_lethal_or_lost(releases: Releases, start: Start):
    """All signals other than a stop arrive at random from the first USR2 on; then TTIN still adds a worker."""
    daemon = start("pid:application", workers={"count": 1})
    chance = random.Random(17)
    with Load(daemon.address(), connections=1) as load:
        daemon.signal("USR2")
        while len(daemon.log_events("program replaced")) < 2:
            daemon.signal(chance.choice(["USR1", "USR2", "TTOU", "HUP", "USR1", "USR1"]))
            time.sleep(chance.uniform(0.001, 0.03))  # the test needs signals at this pace
        eventually(lambda: is_upgraded(daemon, 2))
        eventually(lambda: unless_cut_off(lambda: not daemon.status()["reloading"]))
        daemon.signal("TTIN")
        eventually(lambda: unless_cut_off(lambda: len(daemon.workers()) >= 2))

    assert load.failures == []
    assert daemon.stop() == 0


def test_a_worker_that_dies_between_the_two_programs_is_replaced(releases: Releases, start: Start):
    """The new program reaps it, because it is the same process and so the worker's parent."""
    daemon = start("pid:application", workers={"count": 2}, reload={"settle": "1s"})
    victim = daemon.workers()[0]
    with releases.between(daemon):
        os.kill(victim, 9)
    eventually(lambda: is_upgraded(daemon))
    eventually(lambda: len(daemon.workers()) == 2)

    assert daemon.log_events("worker exited", pid=victim)[0]["signal"] == "SIGKILL"
    assert not is_alive(victim)


def test_a_file_that_breaks_between_trial_and_takeover_leaves_the_old_workers(releases: Releases, start: Start):
    """The new program refuses the file as it would at a HUP; the old workers continue to serve."""
    daemon = start("pid:application", workers={"count": 1})
    old = daemon.workers()
    with releases.between(daemon):
        daemon.configure(workers={"cuont": 3})
    refused = eventually(lambda: daemon.log_events("reload refused"))

    assert "cuont" in refused[0]["reason"]
    assert daemon.workers() == old
    assert int(get(daemon.address()).body) in old
    assert daemon.status()["last_reload"]["verdict"] == "invalid_config"


def test_systemd_sees_one_pid_and_a_reload(releases: Releases, start: Start, tmp_path: Path, monkeypatch):
    """READY=1 ends the reload; the new program sends it over the same socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WITHIN_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        daemon = start("pid:application", workers={"count": 1})
        while b"READY=1" not in manager.recv(4096):
            pass
        daemon.signal("USR2")
        messages = [manager.recv(4096)]
        while b"READY=1" not in messages[-1]:
            messages.append(manager.recv(4096))

    assert any(b"RELOADING=1" in message and b"MONOTONIC_USEC=" in message for message in messages)
    assert daemon.log_events("program replaced")[0]["pid"] == daemon.pid
