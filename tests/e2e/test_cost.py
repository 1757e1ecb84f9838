"""The costs of asgid itself, without the application: memory, processor time while idle, and the time of a start.

The application imports nothing. An MB is 2**20 bytes, as in top and systemd. Memory does not depend on the load of the
machine. Times do, so each is the best of several. Processor time is the kernel's count, not the time that passed: on a
virtual machine, other guests take a part of that.
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
    """Return the min of up to three measurements. A busy loop in an idle process would use 200 ticks in each."""
    fewest = 1000
    for _ in range(3):
        before = ticks(pid)
        time.sleep(IDLE_S)  # the measured time
        if (fewest := min(fewest, ticks(pid) - before)) <= 1:
            break
    return fewest


def import_s() -> float:
    """Return the min time, in seconds, in which a new Python imports the modules that a worker is forked with."""
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
    """Raise the limit of open descriptors to its max, for this process and the daemon; yield it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_master_takes_less_than_40_mb(start: Start) -> None:
    """Hundreds of scrapes and some reloads do not raise its memory."""
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
    """The application takes next to nothing. A worker that is forked by a busy master stays below the limit too."""
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
    """One worker has 2,000 of them, or as many as it has descriptors for. Each has received one response."""
    daemon = start(workers={"count": 1}, timeouts={"keep_alive": "5m"}, log={"access": {"enabled": False}})
    number = min(2000, descriptors - 300)
    (worker,) = daemon.workers()
    for _ in range(20):  # the first requests allocate memory that stays and belongs to no connection
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


def send_requests(daemon: Daemon, number: int) -> None:
    """Send `number` requests on one connection, fifty at a time."""
    with Client(daemon.address()) as client:
        for at in range(0, number, 50):
            client.send(b"".join(request("GET", f"/{at + each}", {"Cookie": "x" * 2000}) for each in range(50)))
            for _ in range(50):
                assert client.answer().body == b"hello"


def open_sockets(daemon: Daemon, number: int) -> None:
    """Open `number` WebSockets, one after the other, and read each to its end."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Cookie": "x" * 2000}
    headers |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Extensions": "permessage-deflate"}
    for each in range(number):
        with Client(daemon.address()) as client:
            client.send(request("GET", f"/{each}", headers))
            assert client.head().status == 101
            client.send(b"\x88\x80\0\0\0\0")  # without this close frame the server waits for one
            client.rest()


@pytest.mark.parametrize(
    ("target", "use"),
    [
        ("asgi3", send_requests),
        ("asgi2", send_requests),
        ("asgi1", send_requests),
        ("wsgi", send_requests),
        ("asgi3", open_sockets),
    ],
    ids=["asgi3", "asgi2", "asgi1", "wsgi", "websocket"],
)
def test_a_worker_does_not_grow_with_its_requests(
    start: Start, target: str, use: Callable[[Daemon, int], None]
) -> None:
    """Two thousand requests of two kilobytes each grow the worker by less than two kilobytes a request."""
    daemon = start(f"interfaces:{target}", workers={"count": 1}, log={"access": {"enabled": False}})
    use(daemon, 500)  # these fill the caches, which have limits
    before = daemon.metric("asgid_worker_resident_memory_bytes")
    use(daemon, 2000)
    each = (daemon.metric("asgid_worker_resident_memory_bytes") - before) / 2000
    print(f"each of 2,000: {each:.0f} bytes")

    assert each < 2000


def test_an_idle_master_uses_nearly_no_processor_time(start: Start) -> None:
    """It uses at most one tick in two seconds, half a per cent: it wakes up to check heartbeats."""
    daemon = start()

    assert ticks_while_idle(daemon.pid) <= 1


def test_a_worker_is_ready_within_300_ms_of_its_fork(start: Start) -> None:
    """The best of four boots has imports, event loop, application and listeners. The slow imports came with the fork.

    On a machine on which the slow imports alone take more than 300 ms, a boot takes less time than they do.
    """
    daemon = start()
    assert daemon.reload()["event"] == "reload committed"
    boots_s = [event["boot_s"] for event in daemon.log_events("worker ready")]
    imports_s = import_s()
    print(f"boots: {boots_s}, imports: {imports_s:.2f}")

    assert len(boots_s) == 4
    assert min(boots_s) < max(0.3, imports_s)
