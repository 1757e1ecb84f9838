"""systemd hears what the master does, and nothing it lacks or refuses ever stops the master."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgid.master.system.systemd import Notifier, take_listen_fds


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The other end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


@pytest.fixture
def notifier(manager: socket.socket) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname()})


@pytest.fixture
def handed_in() -> Iterator[list[int]]:
    """Descriptors 3 and 4, as systemd hands them in: open, and inheritable."""
    saved = {fd: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in (3, 4) if _is_open(fd)}
    for fd in (3, 4):
        reader, writer = os.pipe()
        os.dup2(reader, fd)
        for end in {reader, writer} - {3, 4}:
            os.close(end)
    yield [3, 4]
    for fd in (3, 4):
        os.close(fd)
    for fd, kept in saved.items():
        os.dup2(kept, fd, inheritable=False)
        os.close(kept)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("say", "heard"),
    [
        (lambda n: n.ready("2/2 ready"), "READY=1\nSTATUS=2/2 ready"),
        (lambda n: n.status("reload refused:\nline 3"), "STATUS=reload refused: line 3"),
        (lambda n: n.stopping(1.5), "STOPPING=1\nEXTEND_TIMEOUT_USEC=6500000"),
        (lambda n: n.starting(1.5), "EXTEND_TIMEOUT_USEC=6500000"),
        (lambda n: n.watchdog(), "WATCHDOG=1"),
    ],
)
def test_each_call_is_one_message(manager, notifier, say, heard):
    """sd_notify(3): assignments, one a line; a status must not bring an assignment of its own."""
    assert say(notifier)
    assert heard == manager.recv(4096).decode()


def test_reloading_carries_the_monotonic_time(manager, notifier):
    """Type=notify-reload: without the time the reload counts as failed."""
    before = time.monotonic_ns() // 1000
    notifier.reloading("reloading")
    after = time.monotonic_ns() // 1000
    state, at, status = manager.recv(4096).decode().split("\n")

    assert (state, status) == ("RELOADING=1", "STATUS=reloading")
    assert before <= int(at.removeprefix("MONOTONIC_USEC=")) <= after


def test_an_abstract_address_is_reached():
    """In containers and user sessions NOTIFY_SOCKET may begin with @."""
    name = f"asgid-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(5)

        assert Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready("x")
        assert sock.recv(4096).startswith(b"READY=1")


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-listens", "vsock:2:1", "/" + "x" * 200, "a\0b"])
def test_a_manager_that_cannot_be_told_is_no_error(address):
    """No socket, a socket that is gone, an address of another kind: the call says no, and that is all."""
    assert not Notifier({"NOTIFY_SOCKET": address}).ready("x")
    assert not Notifier({}).stopping(1.0)


def test_a_manager_that_does_not_listen_is_not_waited_for(manager, notifier):
    """Its queue is finite; a full one loses messages, not the master."""
    told = [notifier.watchdog() for _ in range(20_000)]

    assert told[0]
    assert not told[-1]


def test_the_variables_are_gone_for_children_and_kept_for_a_new_master():
    """A worker must not speak for the master; USR2 must not lose systemd."""
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LISTEN_FDS": "0", "HOME": "/"}
    notifier = Notifier(environ)

    assert environ == {"LISTEN_FDS": "0", "HOME": "/"}
    assert notifier.variables == {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}


@pytest.mark.parametrize(
    ("variables", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_only_where_systemd_says_so(variables, watchdog_s):
    """sd_watchdog_enabled(3): a period in microseconds, and a pid where it is not every process's."""
    assert watchdog_s == Notifier(dict(variables)).watchdog_s


def test_sockets_handed_in_have_names_and_are_not_inherited(handed_in):
    """FileDescriptorName= may stand for several; no program that the application starts gets them."""
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:web", "HOME": "/"}

    assert {"web": handed_in} == take_listen_fds(environ)
    assert environ == {"HOME": "/"}
    assert not any(os.get_inheritable(fd) for fd in handed_in)


@pytest.mark.parametrize("names", [{}, {"LISTEN_FDNAMES": ""}, {"LISTEN_FDNAMES": ":"}])
def test_a_socket_without_a_name_is_unknown(handed_in, names):
    """sd_listen_fds_with_names(3) calls it so too."""
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", **names}

    assert {"unknown": handed_in} == take_listen_fds(environ)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "2"},
        {"LISTEN_FDS": "2"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "two"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "-1"},
    ],
)
def test_sockets_of_another_process_are_left_alone(handed_in, variables):
    """Variables that were inherited by accident name descriptors that mean something else here."""
    environ = dict(variables)

    assert take_listen_fds(environ) == {}
    assert environ == {}
    assert all(os.get_inheritable(fd) for fd in handed_in)


@pytest.mark.parametrize("number", ["9" * 20, "9" * 5000, "-1", "1e3", "²", ""])
def test_a_number_in_the_environment_that_cannot_be_is_no_reason_to_wait_or_to_raise(number):
    """Who starts asgid may leave anything there."""
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": number, "WATCHDOG_USEC": number}
    sockets = take_listen_fds({**environ, "LISTEN_PID": "0"} if _is_open(3) else environ)

    assert all(sockets.values())
    assert Notifier(environ).watchdog_s in (None, float("9" * 20) / 1e6)
