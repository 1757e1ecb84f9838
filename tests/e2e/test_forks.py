"""Processes that an application forks: they react to signals, share no descriptor, and never act as a worker."""

import json
import os
import re
import socket
from contextlib import suppress

import psutil
import pytest

from tests.client import Client, get, is_refused
from tests.conftest import Start
from tests.daemon import Daemon, is_alive

#: Python imports the module sitecustomize when it starts. After that, an import of uvloop fails.
HIDE = "import sys\n\nsys.modules['uvloop'] = None\n"


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def daemon(start_shared: Start, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    """Start one worker, with each of the two event loops."""
    directory = tmp_path_factory.mktemp("site")
    if request.param == "asyncio":
        (directory / "sitecustomize.py").write_text(HIDE)
    return start_shared("forks:application", workers={"count": 1}, environment={"PYTHONPATH": str(directory)})


def get_json(daemon: Daemon, path: str) -> object:
    return json.loads(get(daemon.address(), path).body)


@pytest.mark.parametrize("path", ["/terminate", "/terminate-in-a-thread"])
def test_terminate_ends_the_child_and_only_the_child(daemon: Daemon, path: str) -> None:
    """The signal may arrive just after the fork, before the child has reset its signal handlers."""
    worker = get_json(daemon, "/pid")

    assert [-15] * 20 == [get_json(daemon, path) for _ in range(20)]
    assert worker == get_json(daemon, "/pid")
    assert daemon.log_events("worker exited", "worker draining") == []


def test_a_child_holds_no_descriptor_of_the_worker(daemon: Daemon) -> None:
    """It has no listener, no lifeline and no connection. Its epoll watches no descriptor."""
    worker = get_json(daemon, "/pid")
    with Client(daemon.address()) as client, Client(daemon.address()) as idle:
        idle.get("/pid")
        opened = json.loads(client.get("/looks").body)
        ours = {os.readlink(link) for link in descriptors_of(int(str(worker)))}

    shared = {target for target in opened.values() if re.match(r"socket|pipe|/memfd", target)} & ours

    assert not [target for target in shared if target.startswith(("socket", "/memfd"))]
    assert not [fd for fd, target in opened.items() if int(fd) >= 512 and target in ours]  # the lifeline's pipes
    assert not [target for target in opened.values() if target.startswith("/memfd") or target.endswith("tfd:")]


def descriptors_of(pid: int) -> list[str]:
    found = [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
    return [link for link in found if os.path.lexists(link)]


def test_a_client_sees_the_end_of_its_connection_while_a_child_lives(daemon: Daemon) -> None:
    """With a copy of the descriptor, the child would keep the connection open for a minute."""
    host, _, port = daemon.address().rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(b"GET /background HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    child = int(answer.rpartition(b"\r\n")[2])

    assert is_alive(child)
    get_json(daemon, "/kill")


@pytest.mark.parametrize(("path", "code"), [("/exits", 7), ("/raises", 1), ("/returns", 0), ("/awaits", 1)])
def test_a_child_that_returns_from_the_application_ends(daemon: Daemon, path: str, code: int) -> None:
    worker = int(str(get_json(daemon, "/pid")))
    with Client(daemon.address()) as client:
        assert code == json.loads(client.get(path).body)
        assert worker == json.loads(client.get("/pid").body)

    assert psutil.Process(worker).children() == []
    assert daemon.log_events(level="error") == []


def test_a_child_of_a_thread_that_returns_ends(daemon: Daemon) -> None:
    """The child would wait forever for an event loop that does not run in it."""
    assert get_json(daemon, "/in-a-thread") == 0


def test_a_daemonic_child_does_not_delay_a_stop(start: Start) -> None:
    """The exit handler of multiprocessing ends it. For a child that is not daemonic that handler waits."""
    daemon = start(
        "forks:application", workers={"count": 1}, app={"env": {"BACKGROUND": "daemon"}}, timeouts={"graceful": "20s"}
    )
    (worker,) = daemon.workers()
    (child,) = psutil.Process(worker).children()
    try:
        assert daemon.stop(within=15) == 0
        assert is_refused(daemon.address())
        assert daemon.log_events(level="error") == []
        assert not is_alive(child.pid)
    finally:
        with suppress(psutil.NoSuchProcess):
            child.kill()
            child.wait(10)
