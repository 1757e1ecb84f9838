"""The application runs as `process.user` from its first line on, without privileges and without a way to gain any."""

import grp
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client import get
from tests.conftest import Start
from tests.daemon import APPS, Daemon, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
NONE = ["0" * 16]
WARNING = "the application runs as root; set process.user to the user it should run as"


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory with the application that every user may read; only root may read those of pytest."""
    with tempfile.TemporaryDirectory(prefix="asgid-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copy(APPS / "rights.py", directory)
        yield directory


def rights(daemon: Daemon, address: str | None = None) -> dict[str, Any]:
    """Return the ids and capabilities that the application read at its import."""
    found: dict[str, Any] = json.loads(get(address or daemon.address()).body)
    return found


def status_of(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: words.split() for name, _, words in (line.partition(":") for line in lines)}


def ids(number: int) -> list[str]:
    """Return the real, effective, saved and file system id, all `number`, as proc_pid_status(5) lists them."""
    return [str(number)] * 4


def groups_of(user: str, gid: int) -> set[int]:
    return set(os.getgrouplist(user, gid))


def user_of_several_groups() -> str:
    """Return a user of this machine, other than root, that is also in a second group."""
    for group in grp.getgrall():
        for name in group.gr_mem:
            if name != "root" and pwd.getpwnam(name).pw_gid != group.gr_gid:
                return name
    pytest.skip("no user of this machine is in a second group")


def has_no_rights(found: dict[str, Any], but_for: str = "") -> bool:
    return all(found[name] == NONE for name in CAPABILITIES if name != but_for) and found["NoNewPrivs"] == ["1"]


# The user


@pytest.mark.parametrize("choose", [lambda: "www-data", lambda: "nobody", user_of_several_groups])
def test_the_application_is_imported_as_the_user_of_process_user(start: Start, public: Path, choose) -> None:
    """With the user's groups and environment, without a capability or a way back to root; the master stays root."""
    user = pwd.getpwnam(choose())
    daemon = start("rights:application", app={"directory": str(public)}, process={"user": user.pw_name})
    found = rights(daemon)

    assert (ids(user.pw_uid), ids(user.pw_gid)) == (found["Uid"], found["Gid"])
    assert groups_of(user.pw_name, user.pw_gid) == {int(word) for word in found["Groups"]}
    assert {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name} == found["environment"]
    assert has_no_rights(found)
    assert found["taken"] == []
    assert all(has_no_rights(status_of(pid)) for pid in daemon.workers())
    assert status_of(daemon.pid)["Uid"] == ids(0)
    assert daemon.log_events(WARNING) == []


def test_ids_without_a_name_are_the_user_and_the_only_group(start: Start, public: Path) -> None:
    daemon = start("rights:application", app={"directory": str(public)}, process={"user": 54321, "group": "54322"})
    found = rights(daemon)

    assert (ids(54321), ids(54322), ["54322"]) == (found["Uid"], found["Gid"], found["Groups"])
    assert {"HOME": "/", "USER": "54321", "LOGNAME": "54321"} == found["environment"]
    assert has_no_rights(found)
    assert found["taken"] == []


def test_a_group_that_is_set_replaces_the_first_group_of_the_user(start: Start, public: Path) -> None:
    daemon = start(
        "rights:application", app={"directory": str(public)}, process={"user": "www-data", "group": "daemon"}
    )
    found = rights(daemon)
    user, gid = pwd.getpwnam("www-data"), grp.getgrnam("daemon").gr_gid

    assert (ids(user.pw_uid), ids(gid)) == (found["Uid"], found["Gid"])
    assert groups_of("www-data", gid) == {int(word) for word in found["Groups"]}
    assert has_no_rights(found)
    assert found["taken"] == []


def test_a_group_alone_keeps_the_user_and_no_capability(start: Start, public: Path) -> None:
    """The worker is still root for file permissions, so the warning is logged."""
    daemon = start("rights:application", app={"directory": str(public)}, process={"group": "daemon"})
    found = rights(daemon)

    assert (ids(0), ids(grp.getgrnam("daemon").gr_gid)) == (found["Uid"], found["Gid"])
    assert has_no_rights(found)
    assert found["taken"] == ["user"]  # it already is that user
    assert len(daemon.log_events(WARNING)) == 1


def test_no_program_makes_a_worker_root_again(start: Start, public: Path) -> None:
    """A set-user-ID program of root runs as root for that user elsewhere, but not in a worker."""
    program = Path(shutil.copy(shutil.which("id") or "", public / "id"))
    program.chmod(0o4755)
    elsewhere = subprocess.run([program, "-u"], user="www-data", capture_output=True, text=True, check=True).stdout
    if elsewhere != "0\n":
        pytest.skip("set-user-ID has no effect in the directory for temporary files")
    daemon = start(
        "rights:application",
        app={"directory": str(public), "env": {"PROGRAM": f"{program} -u"}},
        process={"user": "www-data"},
    )

    assert rights(daemon)["program"] == f"{pwd.getpwnam('www-data').pw_uid}\n"


#: Executes a program in a new session keyring with one key, as pam_keyinit(8) and a login do.
_WITH_KEY = """
import ctypes, os, sys
libc, add_key, keyctl = ctypes.CDLL(None), *{"x86_64": (248, 250), "aarch64": (217, 219)}[os.uname().machine]
joined = libc.syscall(keyctl, 1, None)
added = libc.syscall(add_key, b"user", b"asgid-secret", b"of root", ctypes.c_size_t(7), -3)
assert min(joined, added) > 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def _has_keys() -> bool:
    if os.uname().machine not in ("x86_64", "aarch64"):
        return False
    return (
        subprocess.run([sys.executable, "-c", _WITH_KEY, "/bin/true"], check=False, capture_output=True).returncode == 0
    )


@pytest.mark.skipif(not _has_keys(), reason="needs keyctl(2), which seccomp filters of containers refuse")
@pytest.mark.parametrize(("process", "found"), [({}, b"of root"), ({"user": "nobody"}, b"Required key not available")])
def test_a_worker_of_another_user_cannot_read_keys_of_the_master(start: Start, public: Path, process, found) -> None:
    """A process may use all keys of the session keyring that it inherits, whichever user they belong to."""
    shutil.copy(APPS / "keys.py", public)
    prefix = (sys.executable, "-c", _WITH_KEY)
    daemon = start("keys:application", app={"directory": str(public)}, process=process, prefix=prefix)

    assert get(daemon.address()).body == found
    assert daemon.stop() == 0


def test_a_reload_gives_no_privilege_back(start: Start, public: Path) -> None:
    daemon = start("rights:application", app={"directory": str(public)}, process={"user": "www-data"})
    before = daemon.workers()

    assert daemon.reload()["event"] == "reload committed"
    daemon.eventually(lambda: len(daemon.workers()) == 2 and not set(daemon.workers()) & set(before))

    found = rights(daemon)
    assert found["Uid"] == ids(pwd.getpwnam("www-data").pw_uid)
    assert has_no_rights(found)


def test_a_start_as_root_without_a_user_logs_one_warning(start: Start) -> None:
    """At the start; a reload, which cannot change the user, does not log the warning again."""
    daemon = start()
    assert daemon.reload()["event"] == "reload committed"

    assert len(daemon.log_events(WARNING, level="warning")) == 1


# Files and sockets that the master opens for the workers


def test_addresses_that_only_root_can_bind_are_served(start: Start, public: Path) -> None:
    """Ports below 1024, also one that a reload adds, and a socket file of another user in a directory of root."""
    first, second = free_low_ports(2)
    file = public / "shop.sock"
    unix = {"bind": f"unix:{file}", "owner": "nobody", "group": "daemon", "mode": "0620"}
    daemon = start(
        "rights:application",
        app={"directory": str(public)},
        process={"user": "www-data"},
        listen=[{"bind": f"127.0.0.1:{first}"}, unix],
    )
    uid = ids(pwd.getpwnam("www-data").pw_uid)
    made = file.stat()

    assert [rights(daemon, address)["Uid"] for address in (f"127.0.0.1:{first}", f"unix:{file}")] == [uid, uid]
    assert stat.S_IMODE(made.st_mode) == 0o620
    assert (made.st_uid, made.st_gid) == (pwd.getpwnam("nobody").pw_uid, grp.getgrnam("daemon").gr_gid)

    daemon.configure(listen=[{"bind": f"127.0.0.1:{second}"}, unix])

    assert daemon.reload()["event"] == "reload committed"
    assert rights(daemon, f"127.0.0.1:{second}")["Uid"] == uid
    assert file.stat().st_ino == made.st_ino


def test_log_files_of_root_are_written(start: Start, public: Path, tmp_path: Path) -> None:
    """The worker opens them before it changes to its user, which cannot read their directory."""
    access = tmp_path / "access.log"
    daemon = start(
        "rights:application",
        app={"directory": str(public)},
        workers={"count": 1},
        process={"user": "www-data"},
        log={"access": {"output": str(access)}},
    )
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    rights(daemon)
    daemon.eventually(lambda: '"GET / HTTP/1.1" 200' in access.read_text())

    assert access.stat().st_uid == 0


@pytest.fixture
def logs(public: Path) -> Path:
    """A directory for log files in which the workers' user may write, as `create` of logrotate needs it."""
    directory = public / "logs"
    directory.mkdir(mode=0o755)
    shutil.chown(directory, "www-data")
    return directory


def start_logging(start: Start, public: Path, logs: Path) -> Daemon:
    """Start a daemon with its access log in `logs`."""
    return start(
        "rights:application",
        app={"directory": str(public)},
        workers={"count": 1},
        process={"user": "www-data"},
        log={"access": {"output": str(logs / "access.log")}},
    )


def test_log_files_where_the_user_may_write_belong_to_it_and_are_reopened(
    start: Start, public: Path, logs: Path
) -> None:
    """Either logrotate creates the new file, or the worker does, as that user."""
    daemon = start_logging(start, public, logs)
    file, uid = logs / "access.log", pwd.getpwnam("www-data").pw_uid
    rights(daemon)
    daemon.eventually(lambda: "GET" in file.read_text())
    made_at_the_start = file.stat().st_uid
    file.rename(logs / "access.log.1")
    file.touch(0o640)
    shutil.chown(file, "www-data")
    daemon.signal("USR1")
    daemon.eventually(lambda: daemon.log_events("log files reopened"))
    daemon.eventually(lambda: rights(daemon) and "GET" in file.read_text())
    file.rename(logs / "access.log.2")
    daemon.signal("USR1")
    daemon.eventually(lambda: rights(daemon) and file.exists() and "GET" in file.read_text())

    assert [uid, uid] == [made_at_the_start, file.stat().st_uid]


def test_no_worker_opens_a_log_as_root_through_a_link_of_its_user(start: Start, public: Path, logs: Path) -> None:
    """The reload is refused with the reason, and a worker that replaces a dead one does not open the file either."""
    daemon = start_logging(start, public, logs)
    old, victim = daemon.workers(), public / "made-by-root"
    (logs / "access.log").unlink()
    (logs / "access.log").symlink_to(victim)
    refused = daemon.reload()

    assert refused["event"] == "reload refused"
    assert "log.access.output" in refused["reason"]
    assert "Permission denied (opened as www-data; opened as root only if" in refused["reason"]
    assert daemon.workers() == old

    os.kill(old[0], signal.SIGKILL)
    died = daemon.eventually(lambda: daemon.log_events("worker exited", reason="boot_failed"))

    assert "Permission denied (opened as www-data" in died[0]["problem"]
    assert not victim.exists()


def test_the_master_opens_no_log_as_root_through_a_link_of_that_user(start: Start, public: Path, logs: Path) -> None:
    """Neither at USR1 nor by itself: it keeps the open file. A file that it creates there belongs to that user."""
    file, victim = logs / "asgid.log", public / "made-by-root"
    with Daemon(
        logs,
        {
            "app": {"target": "rights:application", "directory": str(public)},
            "workers": {"count": 1},
            "process": {"user": "www-data"},
            "log": {"output": str(file)},
        },
        ("-c", str(logs / "asgid.toml")),
    ) as daemon:
        daemon.launch()
        eventually(lambda: file.exists() and "worker ready" in file.read_text())
        made_at_the_start = file.stat().st_uid
        old = file.rename(logs / "asgid.log.1")
        file.symlink_to(victim)
        daemon.signal("USR1")
        eventually(lambda: "log file not reopened" in old.read_text())

        assert "Permission denied (opened as www-data" in old.read_text()
        assert not victim.exists()

        file.unlink()
        daemon.signal("USR1")
        eventually(lambda: file.exists() and "log files reopened" in file.read_text())

        uid = pwd.getpwnam("www-data").pw_uid
        assert [uid, uid] == [made_at_the_start, file.stat().st_uid]


def free_low_ports(number: int) -> list[int]:
    """Return free ports below 1024; the kernel chooses none of these for port 0."""
    found: list[int] = []
    for port in range(1023, 512, -1):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.append(port)
        if len(found) == number:
            return found
    pytest.skip("no port below 1024 can be bound")


# Capabilities that asgid was started with


@pytest.fixture
def setpriv() -> str:
    return shutil.which("setpriv") or pytest.skip("setpriv (util-linux) is missing")


#: Like User= and AmbientCapabilities=CAP_NET_BIND_SERVICE of systemd. The second capability is needed if only root may
#: read the Python, the checkout or the directory for temporary files.
AMBIENT = "+net_bind_service,+dac_read_search"
AS_THAT_USER = (
    *("--reuid=www-data", "--regid=www-data", "--groups=daemon"),
    *(f"--inh-caps={AMBIENT}", f"--ambient-caps={AMBIENT}"),
)

#: Stands for a kernel or a sandbox in which no process can drop its capabilities.
STUBBORN = """
import ctypes, errno
from asgid.config.tables import Process
from asgid.errors import BootError
from asgid.worker.process import privileges
privileges._libc.capset = lambda *_: ctypes.set_errno(errno.EPERM) or -1
try:
    privileges.drop(Process(user="www-data"))
except BootError as error:
    print(error)
"""


def test_only_the_master_keeps_a_capability_that_asgid_was_started_with(start: Start, public: Path, setpriv) -> None:
    """asgid binds the low port, and the application could not; the groups of the start are kept."""
    (port,) = free_low_ports(1)
    daemon = start(
        "rights:application",
        app={"directory": str(public)},
        process={"user": "www-data"},
        listen=[{"bind": f"127.0.0.1:{port}"}],
        prefix=(setpriv, *AS_THAT_USER),
    )
    found, master = rights(daemon), status_of(daemon.pid)

    assert master["CapAmb"] == master["CapEff"] == [f"{1 << 10 | 1 << 2:016x}"]
    assert found["Uid"] == master["Uid"] == ids(pwd.getpwnam("www-data").pw_uid)
    assert found["Groups"] == master["Groups"] == [str(grp.getgrnam("daemon").gr_gid)]
    assert has_no_rights(found, but_for="CapBnd")  # only CAP_SETPCAP can empty it
    assert found["taken"] == []


def test_a_root_that_cannot_empty_the_bounding_set_still_serves(start: Start, public: Path, setpriv) -> None:
    """In a container without CAP_SETPCAP; the worker cannot gain the capabilities that stay in that set."""
    daemon = start(
        "rights:application",
        app={"directory": str(public)},
        process={"user": "www-data"},
        prefix=(setpriv, "--bounding-set=-setpcap"),
    )
    found = rights(daemon)

    assert found["CapBnd"] != NONE
    assert has_no_rights(found, but_for="CapBnd")
    assert found["taken"] == []


def test_a_worker_that_would_keep_a_capability_does_not_boot(setpriv) -> None:
    """The message lists the capabilities and the error of the kernel."""
    run = subprocess.run(
        [setpriv, *AS_THAT_USER, sys.executable, "-c", STUBBORN],
        capture_output=True,
        text=True,
        check=True,
        cwd=APPS.parent.parent,
    )
    left = ", ".join(f"{name}: {1 << 10 | 1 << 2:016x}" for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"))

    assert run.stdout == f"process.user: the worker keeps capabilities ({left}); capset: Operation not permitted\n"


# The master


def test_a_worker_cannot_stop_the_master_with_a_socket_whose_close_waits(start: Start, public: Path) -> None:
    """A unix socket could pass that socket to the master, and its last close would block the master (SO_LINGER)."""
    shutil.copy(APPS / "smuggles.py", public)
    daemon = start("smuggles:application", app={"directory": str(public)}, process={"user": "nobody"})
    sent = get(daemon.address(), "/smuggle").body
    time.sleep(0.5)  # for the master to read the message

    assert sent == b"0"
    assert daemon.probe("/livez")[0] == 200
    assert daemon.stop() == 0


def test_options_of_a_listening_socket_do_not_outlive_the_worker_that_set_them(start: Start, public: Path) -> None:
    """Every later connection would inherit them: a close would reset it, and it would not be read (SO_RCVLOWAT)."""
    shutil.copy(APPS / "tampers.py", public)
    daemon = start(
        "tampers:application", app={"directory": str(public)}, process={"user": "nobody"}, workers={"count": 1}
    )
    assert get(daemon.address(), "/tamper").body.startswith(b"filter")
    (tamperer,) = daemon.workers()
    os.kill(tamperer, signal.SIGKILL)
    (restored,) = daemon.eventually(lambda: daemon.log_events("listener options restored"))
    daemon.eventually(lambda: len(daemon.log_events("worker ready")) == 2)

    assert restored["options"] == "SO_LINGER SO_RCVLOWAT SO_RCVBUF"  # the buffer grows with the low mark
    assert get(daemon.address()).status == 200
    assert daemon.reload()["event"] == "reload committed"
    assert daemon.stop() == 0
    assert len(daemon.log_events("listener options restored")) == 1


# The board


def test_a_worker_that_writes_garbage_into_its_row_harms_no_other_process(start: Start, public: Path) -> None:
    """It answers, its siblings still count their requests, and the master runs; it seems silent and is replaced."""
    shutil.copy(APPS / "vandal.py", public)
    daemon = start(
        "vandal:application",
        app={"directory": str(public)},
        process={"user": "nobody"},
        workers={"count": 2},
        timeouts={"heartbeat": "3s", "graceful": "1s", "kill": "1s"},
    )
    vandal = int(get(daemon.address(), "/vandalize").body)
    found = daemon.eventually(lambda: daemon.log_events("invalid number from worker"))[0]
    answers = {int(get(daemon.address()).body) for _ in range(40)}
    left = daemon.eventually(lambda: daemon.log_events("worker exited"))[0]

    assert (found["pid"], found["level"]) == (vandal, "error")
    assert answers <= set(daemon.workers()) | {vandal}
    assert (left["pid"], left["reason"]) == (vandal, "blocked")
    daemon.eventually(lambda: len(daemon.workers()) == 2)
    assert [get(daemon.address()).status for _ in range(40)] == [200] * 40
    assert daemon.probe("/readyz")[0] == 200
    assert all(value < 2**53 for value in daemon.metrics().values())
    assert len(daemon.log_events("invalid number from worker")) == 1
    assert daemon.stop() == 0
