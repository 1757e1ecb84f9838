"""Processes that an application forks: they obey their parent, hold nothing of the worker, and never become another."""

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

#: Python imports a module of this name at its start; to the import system uvloop is then not there.
HIDE = "import sys\n\nsys.modules['uvloop'] = None\n"


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def daemon(start_shared: Start, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    """One worker, on each of the event loops."""
    directory = tmp_path_factory.mktemp("site")
    if request.param == "asyncio":
        (directory / "sitecustomize.py").write_text(HIDE)
    return start_shared("forks:application", workers={"count": 1}, environment={"PYTHONPATH": str(directory)})


def ask(daemon: Daemon, path: str) -> object:
    return json.loads(get(daemon.address(), path).body)


@pytest.mark.parametrize("path", ["/terminate", "/terminate-in-a-thread"])
def test_terminate_ends_the_child_and_only_the_child(daemon: Daemon, path: str) -> None:
    """Also at once after its start, when it may not have reset its signal handlers yet."""
    worker = ask(daemon, "/pid")

    assert [-15] * 20 == [ask(daemon, path) for _ in range(20)]
    assert worker == ask(daemon, "/pid")
    assert daemon.log_events("worker exited", "worker draining") == []


def test_a_child_holds_no_descriptor_of_the_worker(daemon: Daemon) -> None:
    """No listener, no lifeline, no connection; the epoll that it has watches nothing."""
    worker = ask(daemon, "/pid")
    with Client(daemon.address()) as client, Client(daemon.address()) as idle:
        idle.get("/pid")
        held = json.loads(client.get("/looks").body)
        ours = {os.readlink(link) for link in links(int(str(worker)))}

    shared = {what for what in held.values() if re.match(r"socket|pipe|/memfd", what)} & ours

    assert not [what for what in shared if what.startswith(("socket", "/memfd"))]
    assert not [fd for fd, what in held.items() if int(fd) >= 512 and what in ours]  # the pipes of the lifeline
    assert not [what for what in held.values() if what.startswith("/memfd") or what.endswith("tfd:")]


def links(pid: int) -> list[str]:
    found = [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
    return [link for link in found if os.path.lexists(link)]


def test_a_client_sees_the_end_of_its_connection_while_a_child_lives(daemon: Daemon) -> None:
    """The child would hold it open for a minute."""
    host, _, port = daemon.address().rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(b"GET /background HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    child = int(answer.rpartition(b"\r\n")[2])

    assert is_alive(child)
    ask(daemon, "/kill")


@pytest.mark.parametrize(("path", "code"), [("/exits", 7), ("/raises", 1), ("/returns", 0), ("/awaits", 1)])
def test_a_child_that_comes_back_ends(daemon: Daemon, path: str, code: int) -> None:
    """It sends no second answer, and serves nobody."""
    worker = int(str(ask(daemon, "/pid")))
    with Client(daemon.address()) as client:
        assert code == json.loads(client.get(path).body)
        assert worker == json.loads(client.get("/pid").body)

    assert psutil.Process(worker).children() == []
    assert daemon.log_events(level="error") == []


def test_a_child_of_a_thread_that_comes_back_ends(daemon: Daemon) -> None:
    """It would wait forever for a loop that does not run in it."""
    assert ask(daemon, "/in-a-thread") == 0


@pytest.mark.parametrize("background", ["daemon"])
def test_children_do_not_hold_up_a_stop(start: Start, background: str) -> None:
    """A daemon of multiprocessing is ended by its exit handler; another child lives on, without the port."""
    daemon = start(
        "forks:application",
        workers={"count": 1},
        app={"env": {"BACKGROUND": background}},
        timeouts={"graceful": "20s"},
    )
    (worker,) = daemon.workers()
    (child,) = psutil.Process(worker).children()
    try:
        assert daemon.stop(within=15) == 0
        assert is_refused(daemon.address())
        assert daemon.log_events(level="error") == []
        assert is_alive(child.pid) == (background == "other")
    finally:
        with suppress(psutil.NoSuchProcess):
            child.kill()
            child.wait(10)
