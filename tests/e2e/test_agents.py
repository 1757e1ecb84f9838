"""Agents that start before asgid in its process: they keep their connection, their exit handlers and their output."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.client import get
from tests.conftest import Start
from tests.daemon import eventually

#: Wrappers of monitoring services work this way: they connect when the interpreter starts, report from a thread that
#: starts again after each fork, and write the rest at exit. The 14 descriptors that it opens first move its connection
#: to a number that is free in a worker.
AGENT = """
import atexit, os, socket, threading

if os.environ.get("COLLECTOR"):
    port, place = os.environ.pop("COLLECTOR").split(":", 1)
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(14)]
    connection = socket.create_connection(("127.0.0.1", int(port)))
    stopped = threading.Event()

    def report():
        while not stopped.wait(0.05):
            connection.sendall(b"%d\\n" % os.getpid())

    def begin():
        threading.Thread(target=report, daemon=True).start()

    def finish():
        stopped.set()
        with open(place, "a") as file:
            file.write(f"{os.getpid()}\\n")

    begin()
    os.register_at_fork(after_in_child=begin)
    atexit.register(finish)
    print("agent started")
"""


@contextmanager
def collector() -> Iterator[tuple[int, list[bytes]]]:
    """Listen on a port; yield it and the list of the data that arrives on its connection."""
    arrived: list[bytes] = []

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(65536):
                    arrived.append(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], arrived
        thread.join(30)


def test_an_agent_keeps_its_connection_and_its_exit_handlers_in_each_worker(start: Start, tmp_path: Path) -> None:
    """Its bytes reach the collector and no client. Its exit handlers run once in each worker and in the master."""
    ends = tmp_path / "ends"
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "sitecustomize.py").write_text(AGENT)
    with ExitStack() as stack:
        port, arrived = stack.enter_context(collector())
        environment = {"PYTHONPATH": str(tmp_path / "agent"), "COLLECTOR": f"{port}:{ends}"}
        daemon = start("pid:application", environment=environment)
        host, _, number = daemon.address().rpartition(":")
        clients = [stack.enter_context(socket.create_connection((host, int(number)))) for _ in range(30)]
        workers = daemon.workers()
        assert daemon.reload()["event"] == "reload committed"
        workers += daemon.workers()
        assert int(get(daemon.address()).body) in workers

        reporters = {str(pid).encode() for pid in (*workers, daemon.pid)}
        eventually(lambda: reporters <= set(b"".join(arrived).split()))
        for client in clients:
            client.setblocking(False)
            with suppress(BlockingIOError):
                assert client.recv(100) == b""

        assert daemon.stop() == 0

    assert sorted(ends.read_text().split()) == sorted(map(str, {*workers, daemon.pid}))
    assert (daemon.directory / "stdout").read_text().count("agent started") == 1
    assert daemon.log_events(level="error") == []


def test_descriptors_that_an_application_closes_are_not_asgids(start: Start, tmp_path: Path) -> None:
    """It closes the standard streams: asgid still logs. A file that takes over a number of asgid keeps its content."""
    place = tmp_path / "database"
    daemon = start(
        "closes:application",
        app={"env": {"PLACE": str(place)}},
        workers={"count": 1},
        timeouts={"blocked": "0.3s"},
        log={"access": {"output": "stdout"}},
    )
    assert get(daemon.address(), "/close").status == 200
    host, _, number = daemon.address().rpartition(":")
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection((host, int(number)))) for _ in range(5)]
        assert get(daemon.address(), "/take").status == 200
        assert get(daemon.address(), "/block").status == 200
        assert daemon.log_events("event loop blocked")
        daemon.eventually(lambda: (daemon.directory / "stdout").read_text().count("GET /") == 3)
        for client in clients:
            client.setblocking(False)
            with suppress(BlockingIOError):
                assert client.recv(100) == b""

    assert place.read_bytes().startswith(b"precious" * 1000)
    assert daemon.stop() == 0
    assert daemon.log_events(level="error") == []


def test_descriptors_of_asgid_have_numbers_that_no_open_returns(start: Start) -> None:
    """Those that the master keeps open, and those of a worker apart from its event loop and its clients."""
    daemon = start("pid:application", process={"pid_file": "asgid.pid"}, log={"access": {"output": "access.log"}})

    held = descriptors_of(daemon.pid)
    low = {
        number: target for number, target in held.items() if int(number) < 256 and target != "anon_inode:[eventpoll]"
    }
    assert low.keys() == {"0", "1", "2"}, low
    for pid in daemon.workers():
        ours = {target for target in held.values() if target.startswith("socket:")} | {
            str(daemon.directory / "access.log")
        }
        found = descriptors_of(pid)
        low = {number: target for number, target in found.items() if int(number) < 256}
        assert not ours & set(low.values())
        assert not [target for target in low.values() if target.startswith("/memfd:")]
        assert len(ours & set(found.values())) == 2, "the listener and the access log"


def descriptors_of(pid: int) -> dict[str, str]:
    """Return the target of each open descriptor of a process, by its number."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[link.name] = os.readlink(link)
    return found
