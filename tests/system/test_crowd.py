"""Ten thousand people who have a page open and say nothing: what they cost, and that none is forgotten."""

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
    """As many as the system lets this process, and so each worker, have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(NUMBER, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def own_bytes(daemon: Daemon) -> int:
    """Return the memory that would be free again without the workers."""
    return sum(psutil.Process(pid).memory_full_info().uss for pid in daemon.workers())


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "extension",
    ["", "permessage-deflate; client_max_window_bits"],
    ids=["without-compression", "with-compression"],
)
def test_ten_thousand_idle_websockets_are_pinged_and_kept(start: Start, number: int, extension: str) -> None:
    """Each takes less than 20 KB of the workers, answers every ping, is kept, and hears 1012 from a reload."""
    daemon = start(
        "mirror:application",
        workers={"count": WORKERS},
        websocket={"ping_interval": f"{PING_INTERVAL_S}s", "ping_timeout": "1m"},
        timeouts={"graceful": "1m"},
        reload={"surge": WORKERS},
        log={"access": {"enabled": False}},
    )
    with Crowd(daemon.address(), 40, extension):  # what the first ones bring about stays, and is no connection's
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
