"""Long-lived connections spread evenly over the workers, although all workers accept from one queue."""

import time

from tests.client import Client, get
from tests.conftest import Start


def test_keep_alive_connections_spread_evenly(start: Start) -> None:
    """With 200 connections in two seconds, none of four workers has more than 1.25 times as many as another."""
    daemon = start("hello:application", workers={"count": 4})
    clients = []
    begun = time.monotonic()
    for number in range(200):
        clients.append(Client(daemon.address()))
        clients[-1].get()
        while time.monotonic() < begun + 0.01 * number:  # the test is about this pace: 100 connections a second
            time.sleep(0.001)

    held = [worker["connections"] for worker in daemon.status()["workers"]]
    for client in clients:
        client.close()

    assert sum(held) == 200
    assert max(held) <= 1.25 * min(held), held


def test_a_burst_of_connections_spreads_evenly(start: Start) -> None:
    """A proxy that restarts opens a hundred connections at once."""
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
    """It has the fewest connections. A client that it accepted would wait for the ten seconds of its heartbeat."""
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
