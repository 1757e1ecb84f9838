"""The interval between two ticks of a worker."""

import pytest

from asgid.config import parse
from asgid.worker.process.ticker import interval_s


@pytest.mark.parametrize(
    ("setting", "interval"),
    [
        ("", 2 / 3),
        ('timeouts.blocked = "off"', 1.0),
        ('timeouts.heartbeat = "0.9s"\ntimeouts.blocked = "0.6s"', 0.2),
        ('timeouts.header = "0.4s"', 0.2),
        ('timeouts.body = "0.4s"', 0.2),
        ('timeouts.write = "0.4s"', 0.2),
        ('timeouts.keep_alive = "0.4s"', 0.2),
        ('timeouts.request = "0.4s"', 0.2),
        ('limits.queue_timeout = "0.4s"', 0.2),
        ('websocket.ping_interval = "0.4s"', 0.2),
        ('websocket.ping_timeout = "0.4s"', 0.2),
        ('websocket.ping_timeout = "0.1s"', 0.05),
        ('websocket.ping_timeout = "1ms"', 0.05),
    ],
)
def test_the_interval_is_at_most_half_of_the_shortest_timeout(setting, interval):
    """So a timeout is noticed late by half of it at most. The interval is never below 50 ms."""
    assert pytest.approx(interval) == interval_s(parse(f'app.target = "a:b"\n{setting}', ""))
