"""USR2: another program in the master's place, with its pid, its sockets and its workers; or nothing."""

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

import psutil
import pytest

from tests import daemon as daemons
from tests.client import Client, Load, get, request
from tests.conftest import Start
from tests.daemon import WITHIN_S, Daemon, eventually, is_alive

PACKAGE = Path(__file__).parents[2] / "asgid"


class Releases:
    """Copies of asgid side by side, and the link `current`, as a deployment swaps it.

    While `held` exists a program that takes over does not begin: what happens then has happened between the two.
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
        """Copy the package as another version, and return where its modules are."""
        package = self.directory / version / "asgid"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        change(package / "__init__.py", '__version__ = "', f'__version__ = "{version}+')
        return package

    @contextmanager
    def between(self, daemon: Daemon) -> Iterator[None]:
        """Send USR2; what is done in the `with` block is done when one program has ended, and the next not begun."""
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
    """Two releases, of which the first is in use and the one that daemons run."""
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
    """Whether the program was replaced so often, and after the last time every worker."""
    replaced = daemon.log_events("program replaced")
    committed = daemon.log_events("reload committed")
    return len(replaced) >= number and bool(committed) and committed[-1]["time"] > replaced[-1]["time"]


def unless_cut_off(ask: Callable[[], bool]) -> bool:
    """Return what the daemon answers; False where one program has become the other while it was asked."""
    try:
        return ask()
    except ConnectionError:
        return False


def descriptors(daemon: Daemon) -> int:
    """Return how many the master has open; a client of its endpoint is one until it is gone."""
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def series(daemon: Daemon) -> dict[daemons.Series, float]:
    """Return every counter, by name and labels."""
    return {key: value for key, value in daemon.metrics().items() if key[0].endswith(("_total", "_count", "_bucket"))}


def test_a_new_version_takes_over_under_load_and_no_request_is_lost(releases: Releases, start: Start, tmp_path: Path):
    """The pid stays, every worker is replaced, counters go on, and the pid file and the sockets stay the master's."""
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
    """In the worker that it began in, which drains under another program than the one that forked it."""
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
    """Nothing leaks from one program to the next, and what an operator does works after each."""
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


class AtHome(Daemon):
    """A daemon whose log is a file at a whole path, in a directory of its own; what it says is found all the same."""

    def __init__(self, directory: Path, **tables: object) -> None:
        self.logs = directory / "logs"
        self.logs.mkdir(parents=True)
        (directory / "stderr").touch()
        (self.logs / "asgid.log").hardlink_to(directory / "stderr")
        log = {"output": str(self.logs / "asgid.log"), "access": {"output": str(directory / "access.log")}}
        settings = {"app": {"target": "pid:application"}, "workers": {"count": 1}, "log": log}
        super().__init__(directory, settings | tables, ("-c", str(directory / "asgid.toml")))


def test_what_names_whole_paths_needs_no_working_directory(releases: Releases, tmp_path: Path):
    """A deployment has removed the release that asgid was started in: workers are replaced, HUP and USR2 work."""
    release = tmp_path / "release"
    release.mkdir()
    with AtHome(tmp_path / "home") as daemon:
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


def test_a_log_that_cannot_be_opened_any_more_fails_the_trial(releases: Releases, tmp_path: Path):
    """The program that runs has it open, and goes on with it."""
    with AtHome(tmp_path / "home") as daemon:
        daemon.start()
        old = daemon.workers()
        shutil.rmtree(daemon.logs)
        daemon.signal("USR2")
        refused = eventually(lambda: daemon.log_events("upgrade refused"))[0]

        assert "log.output: the file in force cannot be opened: [Errno 2] No such file" in refused["reason"]
        assert daemon.workers() == old


def test_a_log_that_is_closed_between_trial_and_takeover_ends_nothing(releases: Releases, tmp_path: Path):
    """Standard error takes its place; the workers that were taken over serve on, for the reload finds it too."""
    with AtHome(tmp_path / "home") as daemon:
        daemon.start()
        old = daemon.workers()
        with releases.between(daemon):
            shutil.rmtree(daemon.logs)
        eventually(lambda: daemon.log_events("reload refused"))
        said = daemon.log_events("log.output cannot be opened; standard error takes its place", level="warning")

        assert [f"[Errno 2] No such file or directory: '{daemon.logs / 'asgid.log'}'"] == [
            event["problem"] for event in said
        ]
        assert daemon.workers() == old
        assert int(get(daemon.address()).body) in old


# What must be refused, and must not hurt. `broken` makes the fault, the rest is what the operator is told.


def a_program_that_does_not_start(releases: Releases, daemon: Daemon) -> None:
    change(releases.directory / "two" / "asgid" / "cli.py", "def main(", "def main(:")


def a_program_that_cannot_boot_the_application(releases: Releases, daemon: Daemon) -> None:
    change(releases.directory / "two" / "asgid" / "worker" / "app" / "loader.py", "def load(", "def unload(")


def a_program_whose_board_is_another(releases: Releases, daemon: Daemon) -> None:
    change(releases.directory / "two" / "asgid" / "board.py", '("STARTED", 1)', '("STARTED", 2)')


def a_program_that_knows_no_handover(releases: Releases, daemon: Daemon) -> None:
    change(releases.directory / "two" / "asgid" / "cli.py", '"--takes-over"', '"--takes-nothing"')


def a_program_that_is_not_there(releases: Releases, daemon: Daemon) -> None:
    releases.program.unlink()


def a_program_that_is_no_program(releases: Releases, daemon: Daemon) -> None:
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
    (a_program_whose_board_is_another, "cannot take over; restart instead: the board has another layout: the cells of"),
    (a_program_that_knows_no_handover, "exited with code 64"),
    (a_program_that_is_not_there, "cannot be run: No such file or directory"),
    (a_program_that_is_no_program, "cannot be run: No such file or directory"),
    (a_program_that_does_nothing, "wrote no receipt for the handover"),
    (a_file_that_is_wrong, "cuont"),
    (an_application_that_does_not_import, "the tables of this application were never made"),
    (an_application_that_does_not_start, "the database of this application is down"),
]


@pytest.mark.parametrize(("broken", "words"), REFUSED, ids=[case[0].__name__ for case in REFUSED])
def test_what_fails_its_trial_leaves_everything_as_it_is(releases: Releases, start: Start, broken, words: str):
    """The program that runs goes on with the same workers, and the log says why the new one was not taken."""
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


def test_no_application_holds_the_handover(releases: Releases, start: Start, tmp_path: Path):
    """Neither in the trial, whose receipt it could forge, nor in a worker: the file also has the settings."""
    module, found = tmp_path / "looks.py", tmp_path / "found"
    module.write_text(
        "import glob, os\n"
        f"with open({str(found)!r}, 'a') as file:\n"
        "    for link in glob.glob('/proc/self/fd/*'):\n"
        "        if os.path.lexists(link):\n"
        "            print(os.readlink(link), file=file)\n"
        "    print('end', file=file)\n"
        "async def application(scope, receive, send): raise NotImplementedError\n"
    )
    daemon = start("looks:application", app={"directory": str(tmp_path)}, workers={"count": 1})
    releases.use("two")
    daemon.signal("USR2")
    eventually(lambda: is_upgraded(daemon))
    held = found.read_text().splitlines()

    assert held.count("end") >= 3  # before, in the trial, and after
    assert [file for file in held if "handover" in file] == []
    assert daemon.stop() == 0


def test_an_upgrade_that_was_refused_can_be_asked_for_again(releases: Releases, start: Start):
    """When the fault is mended."""
    daemon = start("pid:application", workers={"count": 1})
    settings = daemon.settings
    a_file_that_is_wrong(releases, daemon)
    daemon.signal("USR2")
    eventually(lambda: daemon.log_events("upgrade refused"))
    daemon.settings = settings
    daemon.write_settings()
    releases.use("two")
    daemon.signal("USR2")
    eventually(lambda: is_upgraded(daemon))

    assert version_of(daemon) == "two"


# Other facts at the same time


def test_a_stop_during_the_trial_is_obeyed_at_once(releases: Releases, start: Start):
    """And the trial, which may take as long as a boot, is ended with it."""
    daemon = start("slow_boot:application", app={"env": {"SLOW_BOOT_S": "1"}}, workers={"count": 1})
    daemon.configure(app={"env": {"SLOW_BOOT_S": "60"}})
    daemon.signal("USR2")
    trial = eventually(lambda: daemon.log_events("upgrade started"))[0]["trial_pid"]
    eventually(lambda: psutil.Process(trial).children())  # its own worker boots
    begun = time.monotonic()

    assert daemon.stop() == 0
    assert time.monotonic() - begun < 15
    assert not is_alive(trial)
    eventually(lambda: not daemon.processes())
    assert daemon.log_events("upgrade refused")[0]["reason"] == "a stop came first"


def test_a_reload_during_the_trial_has_its_verdict_first(releases: Releases, start: Start):
    """Then the program is replaced; each is a generation of its own."""
    daemon = start("slow_boot:application", app={"env": {"SLOW_BOOT_S": "1.5"}}, workers={"count": 1})
    releases.use("two")
    daemon.signal("USR2")
    eventually(lambda: daemon.log_events("upgrade started"))
    daemon.signal("HUP")
    eventually(lambda: is_upgraded(daemon))

    events = [event["event"] for event in daemon.log_events("reload committed", "replacing the program")]
    assert events == ["reload committed", "replacing the program", "reload committed"]
    eventually(lambda: generations(daemon) == {3})


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT"])
def test_a_stop_while_one_program_becomes_the_other_is_obeyed(releases: Releases, start: Start, name: str):
    """It waits until there is a program to obey it."""
    daemon = start("pid:application", workers={"count": 1})
    with releases.between(daemon):
        daemon.signal(name)

    assert daemon.wait() == 0
    assert daemon.log_events("stopping")[0]["signal"] == f"SIG{name}"
    assert not daemon.processes()


def test_no_signal_at_any_moment_of_an_upgrade_is_lethal_or_lost(releases: Releases, start: Start):
    """A storm of every signal that is no stop, from the first USR2 on; then the number of workers is what was asked."""
    daemon = start("pid:application", workers={"count": 1})
    chance = random.Random(17)
    with Load(daemon.address(), connections=1) as load:
        daemon.signal("USR2")
        while len(daemon.log_events("program replaced")) < 2:
            daemon.signal(chance.choice(["USR1", "USR2", "TTOU", "HUP", "USR1", "USR1"]))
            time.sleep(chance.uniform(0.001, 0.03))  # the pace of the storm is the case
        eventually(lambda: is_upgraded(daemon, 2))
        eventually(lambda: unless_cut_off(lambda: not daemon.status()["reloading"]))
        daemon.signal("TTIN")
        eventually(lambda: unless_cut_off(lambda: len(daemon.workers()) >= 2))

    assert load.failures == []
    assert daemon.stop() == 0


def test_a_worker_that_dies_while_one_program_becomes_the_other_is_replaced(releases: Releases, start: Start):
    """The new program reaps it, for it is the same process and its parent."""
    daemon = start("pid:application", workers={"count": 2}, reload={"settle": "1s"})
    victim = daemon.workers()[0]
    with releases.between(daemon):
        os.kill(victim, 9)
    eventually(lambda: is_upgraded(daemon))
    eventually(lambda: len(daemon.workers()) == 2)

    assert daemon.log_events("worker exited", pid=victim)[0]["signal"] == "SIGKILL"
    assert not is_alive(victim)


def test_a_file_that_breaks_between_trial_and_takeover_leaves_the_old_workers(releases: Releases, start: Start):
    """The new program refuses it as it would at a HUP; the workers that it took over serve on."""
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
    """READY=1 ends it; the new program speaks over the same socket, and a named listener is still there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WITHIN_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        daemon = start("pid:application", workers={"count": 1})
        while b"READY=1" not in manager.recv(4096):
            pass
        daemon.signal("USR2")
        said = [manager.recv(4096)]
        while b"READY=1" not in said[-1]:
            said.append(manager.recv(4096))

    assert any(b"RELOADING=1" in message and b"MONOTONIC_USEC=" in message for message in said)
    assert daemon.log_events("program replaced")[0]["pid"] == daemon.pid
