"""Long-lived connections spread over the workers, though all take them from one queue."""

import time

from tests.client import Client, get
from tests.conftest import Start


def test_keep_alive_connections_spread_evenly(start: Start) -> None:
    """Four workers, 200 connections opened over two seconds: the fullest holds at most 1.25 times the emptiest."""
    daemon = start("hello:application", workers={"count": 4})
    clients = []
    begun = time.monotonic()
    for number in range(200):
        clients.append(Client(daemon.address()))
        clients[-1].get()
        while time.monotonic() < begun + 0.01 * number:  # the pace is the case: 100 connections a second
            time.sleep(0.001)

    held = [worker["connections"] for worker in daemon.status()["workers"]]
    for client in clients:
        client.close()

    assert sum(held) == 200
    assert max(held) <= 1.25 * min(held), held


def test_connections_that_come_at_once_spread_too(start: Start) -> None:
    """A hundred in one burst, as after a restart of a proxy."""
    daemon = start("hello:application", workers={"count": 2})
    clients = [Client(daemon.address()) for _ in range(100)]
    for client in clients:
        client.get()
    held = [worker["connections"] for worker in daemon.status()["workers"]]
    for client in clients:
        client.close()

    assert sum(held) == 100
    assert max(held) <= 1.25 * min(held), held


def test_a_stuck_worker_gets_no_new_connections(start: Start) -> None:
    """Nor does anybody wait for it, though it holds the fewest: that would be for the ten seconds of its heartbeat."""
    daemon = start("stuck:application", workers={"count": 2}, timeouts={"heartbeat": "10s", "graceful": "0s"})
    with Client(daemon.address()) as victim:
        victim.send(b"GET /stuck HTTP/1.1\r\nhost: a\r\n\r\n")
        daemon.eventually(lambda: any(worker["requests"] for worker in daemon.status()["workers"]))
        clients = []
        slowest = 0.0
        for _ in range(30):
            begun = time.monotonic()
            clients.append(Client(daemon.address()))
            clients[-1].get("/")
            slowest = max(slowest, time.monotonic() - begun)
        for client in clients:
            client.close()

    assert slowest < 5
    assert get(daemon.address()).status == 200
