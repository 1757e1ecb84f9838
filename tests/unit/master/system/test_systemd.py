"""systemd receives the states of the master, and no failure of systemd stops the master."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgid.master.system import systemd
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
def passed_fds(monkeypatch) -> Iterator[list[int]]:
    """Two descriptors as systemd passes them. The first is 200 here: the process of the tests uses 3 itself."""
    monkeypatch.setattr(systemd, "_FIRST_FD", 200)
    fds = [200, 201]
    with socket.socket() as end:
        for fd in fds:
            os.dup2(end.fileno(), fd)
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize(
    ("notify", "message"),
    [
        (lambda n: n.ready("2/2 ready"), "READY=1\nSTATUS=2/2 ready"),
        (lambda n: n.status("reload refused:\nline 3"), "STATUS=reload refused: line 3"),
        (lambda n: n.stopping(1.5), "STOPPING=1\nEXTEND_TIMEOUT_USEC=6500000"),
        (lambda n: n.starting(1.5), "EXTEND_TIMEOUT_USEC=6500000"),
        (lambda n: n.watchdog(), "WATCHDOG=1"),
    ],
)
def test_each_call_is_one_message(manager, notifier, notify, message):
    """sd_notify(3): one assignment a line, so a status must not contain a line break."""
    assert notify(notifier)
    assert message == manager.recv(4096).decode()


def test_reloading_has_the_monotonic_time(manager, notifier):
    """With Type=notify-reload, a reload without the time counts as failed."""
    before = time.monotonic_ns() // 1000
    notifier.reloading("reloading")
    after = time.monotonic_ns() // 1000
    state, at, status = manager.recv(4096).decode().split("\n")

    assert (state, status) == ("RELOADING=1", "STATUS=reloading")
    assert before <= int(at.removeprefix("MONOTONIC_USEC=")) <= after


def test_an_abstract_address_works():
    """In containers and user sessions NOTIFY_SOCKET may begin with @."""
    name = f"asgid-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(5)

        assert Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready("x")
        assert sock.recv(4096).startswith(b"READY=1")


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@not-bound", "vsock:2:1", "/" + "x" * 200, "a\0b"])
def test_a_message_that_cannot_be_sent_is_not_an_error(address):
    """No socket, a removed socket or an address of another kind: the call returns False."""
    assert not Notifier({"NOTIFY_SOCKET": address}).ready("x")
    assert not Notifier({}).stopping(1.0)


def test_a_manager_that_does_not_read_does_not_delay_the_master(manager, notifier):
    """If its queue is full, messages are lost."""
    sent = [notifier.watchdog() for _ in range(20_000)]

    assert sent[0]
    assert not sent[-1]


def test_the_variables_are_removed_for_children_and_kept_for_a_new_master():
    """A worker must not notify systemd; after USR2 the new program must."""
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
def test_the_watchdog_is_used_only_if_it_is_for_this_process(variables, watchdog_s):
    """sd_watchdog_enabled(3): a period in microseconds, and a pid if it is for one process."""
    assert watchdog_s == Notifier(dict(variables)).watchdog_s


def test_passed_sockets_have_names_and_are_not_inheritable(passed_fds):
    """Several may share a FileDescriptorName=; children of the application do not inherit them."""
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:web", "HOME": "/"}

    assert {"web": passed_fds} == take_listen_fds(environ)
    assert environ == {"HOME": "/"}
    assert not any(os.get_inheritable(fd) for fd in passed_fds)


@pytest.mark.parametrize("names", [{}, {"LISTEN_FDNAMES": ""}, {"LISTEN_FDNAMES": ":"}])
def test_a_socket_without_a_name_is_called_unknown(passed_fds, names):
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", **names}

    assert {"unknown": passed_fds} == take_listen_fds(environ)


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
def test_sockets_of_another_process_are_left_alone(passed_fds, variables):
    """If the variables were inherited by accident, the numbers mean other descriptors here."""
    environ = dict(variables)

    assert take_listen_fds(environ) == {}
    assert environ == {}
    assert all(os.get_inheritable(fd) for fd in passed_fds)


@pytest.mark.parametrize("number", ["9" * 20, "9" * 5000, "-1", "1e3", "²", ""])
def test_an_impossible_number_in_the_environment_is_ignored(passed_fds, number):
    """The environment may contain anything."""
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": number, "WATCHDOG_USEC": number}
    sockets = take_listen_fds(environ)

    assert all(sockets.values())
    assert Notifier(environ).watchdog_s in (None, float("9" * 20) / 1e6)
