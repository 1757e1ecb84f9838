"""What asgid itself costs, beside the application: memory, processor time while nothing happens, and a start.

The application imports nothing. An MB is 2**20 bytes, as top and systemd count. Memory does not depend on how busy the
machine is; of times the best of several is taken, and processor time is what the kernel has counted, not what went by:
on a virtual machine some of it is what others took.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.client import Client, get, request
from tests.conftest import Start
from tests.daemon import Daemon

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
IDLE_S = 2.0
MB = 2**20


def resident_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def ticks(pid: int) -> int:
    """Return the processor time that the process has used, in the kernel's ticks (100 a second)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def ticks_while_idle(pid: int) -> int:
    """Return the least of up to three looks; a process that turns while nothing happens uses two hundred in each."""
    least = 1000
    for _ in range(3):
        before = ticks(pid)
        time.sleep(IDLE_S)  # this is what is measured
        if (least := min(least, ticks(pid) - before)) <= 1:
            break
    return least


def import_s() -> float:
    """Return how long a new Python takes at best for what a worker is forked with, on this machine and now."""
    times = []
    for _ in range(3):
        begun = time.monotonic()
        subprocess.run([sys.executable, "-c", "import asgid.worker.main"], check=True)
        times.append(time.monotonic() - begun)
    return min(times)


def scrape(daemon: Daemon, times: int) -> None:
    for _ in range(times):
        assert daemon.probe("/metrics")[0] == 200
        assert daemon.probe("/metrics", accept=OPENMETRICS)[0] == 200
        assert daemon.status()["ready"]


@pytest.fixture
def descriptors() -> Iterator[int]:
    """As many as the system lets this process, and so the daemon, have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_master_takes_less_than_40_mb(start: Start) -> None:
    """After hundreds of scrapes and some reloads, which leave nothing behind."""
    daemon = start()
    scrape(daemon, 100)
    first = resident_bytes(daemon.pid)
    for _ in range(3):
        assert daemon.reload()["event"] == "reload committed"
    scrape(daemon, 200)
    last = resident_bytes(daemon.pid)
    print(f"the master: {last / MB:.1f} MB")

    assert last < 40 * MB
    assert last - first < MB / 2


def test_a_worker_takes_less_than_35_mb(start: Start) -> None:
    """Beside what the application takes; also one that came of a master which has been at work."""
    daemon = start()
    scrape(daemon, 50)
    first = daemon.workers()
    biggest = max(map(resident_bytes, first))
    assert daemon.reload()["event"] == "reload committed"
    daemon.eventually(lambda: len(daemon.workers()) == 2 and not set(first) & set(daemon.workers()))
    assert get(daemon.address()).body == b"hello"
    biggest = max(biggest, *map(resident_bytes, daemon.workers()))
    print(f"a worker: {biggest / MB:.1f} MB")

    assert biggest < 35 * MB


def test_an_idle_connection_takes_less_than_12_kb_and_no_time(start: Start, descriptors: int) -> None:
    """2,000 of them in one worker, or as many as there are descriptors for; each has had one request answered."""
    daemon = start(workers={"count": 1}, timeouts={"keep_alive": "5m"}, log={"access": {"enabled": False}})
    number = min(2000, descriptors - 300)
    (worker,) = daemon.workers()
    for _ in range(20):  # what the first requests bring about stays, and is no connection's
        get(daemon.address())
    with ExitStack() as stack:
        before = resident_bytes(worker)
        for _ in range(number):
            assert stack.enter_context(Client(daemon.address())).get().body == b"hello"
        each = (resident_bytes(worker) - before) / number
        print(f"each of {number} connections: {each:.0f} bytes")

        daemon.eventually(lambda: daemon.metric("asgid_connections", state="idle") == number)
        assert each < 12_000
        assert ticks_while_idle(worker) <= 1


def ask(daemon: Daemon, number: int) -> None:
    """Send so many requests on one connection, fifty at a time."""
    with Client(daemon.address()) as client:
        for at in range(0, number, 50):
            client.send(b"".join(request("GET", f"/{at + each}", {"Cookie": "x" * 2000}) for each in range(50)))
            for _ in range(50):
                assert client.answer().body == b"hello"


def open_sockets(daemon: Daemon, number: int) -> None:
    """Open so many WebSockets, one after the other, and read each to its end."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Cookie": "x" * 2000}
    headers |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Extensions": "permessage-deflate"}
    for each in range(number):
        with Client(daemon.address()) as client:
            client.send(request("GET", f"/{each}", headers))
            assert client.head().status == 101
            client.send(b"\x88\x80\0\0\0\0")  # else the server waits for the answer to its close
            client.rest()


@pytest.mark.parametrize(
    ("target", "use"),
    [("asgi3", ask), ("asgi2", ask), ("asgi1", ask), ("wsgi", ask), ("asgi3", open_sockets)],
    ids=["asgi3", "asgi2", "asgi1", "wsgi", "websocket"],
)
def test_a_worker_does_not_grow_with_its_requests(
    start: Start, target: str, use: Callable[[Daemon, int], None]
) -> None:
    """Two thousand take less than the two kilobytes that each of them has sent."""
    daemon = start(f"interfaces:{target}", workers={"count": 1}, log={"access": {"enabled": False}})
    use(daemon, 500)  # what is made once, and remembered within bounds
    before = daemon.metric("asgid_worker_resident_memory_bytes")
    use(daemon, 2000)
    each = (daemon.metric("asgid_worker_resident_memory_bytes") - before) / 2000
    print(f"each of 2,000: {each:.0f} bytes")

    assert each < 2000


def test_a_master_that_nobody_asks_does_nearly_nothing(start: Start) -> None:
    """At most one tick in two seconds, which is half a per cent; it wakes to look at heartbeats."""
    daemon = start()

    assert ticks_while_idle(daemon.pid) <= 1


def test_a_worker_is_ready_within_300_ms_of_its_fork(start: Start) -> None:
    """The best of four: imports, loop, application, listeners; the heavy imports came with the fork.

    Where the machine is so slow that these alone take longer, less than they do.
    """
    daemon = start()
    assert daemon.reload()["event"] == "reload committed"
    boots_s = [event["boot_s"] for event in daemon.log_events("worker ready")]
    heavy_s = import_s()
    print(f"boots: {boots_s}, imports: {heavy_s:.2f}")

    assert len(boots_s) == 4
    assert min(boots_s) < max(0.3, heavy_s)
