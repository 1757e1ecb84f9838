"""Ten thousand idle WebSockets: their memory, their pings, and their close at a reload."""

import resource
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.conftest import Start
from tests.daemon import Daemon, eventually
from tests.system.crowd import Crowd

NUMBER = 10_000
WORKERS = 4
PINGS = 3
PING_INTERVAL_S = 2


@pytest.fixture
def number() -> Iterator[int]:
    """Raise the limit of descriptors, and yield NUMBER, or fewer connections if the hard limit is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(NUMBER, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def own_bytes(daemon: Daemon) -> int:
    """Return the bytes of memory that an exit of all workers would free (their USS)."""
    return sum(psutil.Process(pid).memory_full_info().uss for pid in daemon.workers())


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "extension", ["", "permessage-deflate; client_max_window_bits"], ids=["without-compression", "with-compression"]
)
def test_ten_thousand_idle_websockets_are_pinged_and_kept(start: Start, number: int, extension: str) -> None:
    """Each takes less than 20 KB of the workers, answers every ping, stays open, and receives 1012 at a reload."""
    daemon = start(
        "mirror:application",
        workers={"count": WORKERS},
        websocket={"ping_interval": f"{PING_INTERVAL_S}s", "ping_timeout": "1m"},
        timeouts={"graceful": "1m"},
        reload={"surge": WORKERS},
        log={"access": {"enabled": False}},
    )
    with Crowd(daemon.address(), 40, extension):  # memory that the first connections allocate once for all
        pass
    before = own_bytes(daemon)
    begun = time.monotonic()
    with Crowd(daemon.address(), number, extension) as crowd:
        connected_s = time.monotonic() - begun
        eventually(lambda: min(crowd.pings.values()) >= PINGS, within=120)
        each = (own_bytes(daemon) - before) / number
        shares = sorted(worker["connections"] for worker in daemon.status()["workers"])
        print(f"{number} in {connected_s:.1f} s, {each:.0f} bytes each, {shares} on the workers")
        kept = daemon.metric("asgid_connections", state="websocket")
        lost = crowd.lost, sum(crowd.closes.values())

        assert daemon.reload(within=120)["event"] == "reload committed"
        eventually(lambda: not crowd.open, within=120)

    assert kept == number
    assert (0, 0) == lost
    assert each < 20_000
    assert {1012: number} == crowd.closes
    assert crowd.lost == 0
    assert daemon.metric("asgid_websocket_closes_total", code="1012") == number
    assert daemon.log_events("worker signalled") == []
