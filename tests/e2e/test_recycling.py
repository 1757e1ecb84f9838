"""A recycled worker exits after its replacement is ready; one at a time, and without a failed or delayed request."""

import time

import pytest

from tests.client import Load, get
from tests.conftest import Start

BOOT_S = 2.5
CASES: list[dict[str, int | str]] = [
    {"count": 1, "max_requests": 300, "max_requests_jitter": 100},
    {"count": 2, "max_requests": 150, "max_requests_jitter": 50},
    {"count": 1, "max_lifetime": "1s"},
]


@pytest.mark.parametrize("settings", CASES, ids=["requests-1", "requests-2", "lifetime-1"])
def test_recycling_costs_no_request(start: Start, settings: dict[str, int | str]) -> None:
    """Under load no request fails or waits for a boot, which takes seconds here, not even with one worker."""
    daemon = start("slow_boot:application", app={"env": {"SLOW_BOOT_S": str(BOOT_S)}}, workers=settings)
    first = set(daemon.workers())
    with Load(daemon.address(), connections=4) as load:
        daemon.eventually(lambda: not first & set(daemon.workers()))

    assert load.failures == []
    assert max(load.seconds) < BOOT_S - 0.5
    assert daemon.metric("asgid_worker_exits_total", reason="recycle") >= len(first)
    assert daemon.metric("asgid_worker_starts_total", reason="recycle") >= len(first)
    assert {f"workers.{key}" for key in settings} > {
        event["reason"] for event in daemon.log_events("worker due for recycling")
    }


def test_one_worker_is_recycled_at_a_time(start: Start) -> None:
    """Three workers reach max_lifetime together: at most one more than workers.count runs at a time."""
    daemon = start("hello:application", workers={"count": 3, "max_lifetime": "1s"})
    first = set(daemon.workers())
    most = 0

    def all_replaced() -> bool:
        nonlocal most
        states = [worker["state"] for worker in daemon.status()["workers"]]
        most = max(most, sum(state != "draining" for state in states))
        assert get(daemon.address()).status == 200
        return not first & set(daemon.workers())

    daemon.eventually(all_replaced)

    assert most <= 4


def test_a_worker_that_has_grown_is_replaced(start: Start) -> None:
    """The log gives the reason; under load no request fails, or waits for the five seconds that a drain may take."""
    daemon = start("hoards:application", workers={"count": 1, "max_memory": "120MiB"})
    (first,) = daemon.workers()
    with Load(daemon.address(), connections=4) as load:
        get(daemon.address(), "/150")  # MiB that stay
        begun = time.monotonic()
        daemon.eventually(lambda: first not in daemon.workers())

    events = [
        event["event"] for event in daemon.log_events("worker ready", "worker due for recycling", "worker draining")
    ]
    assert load.failures == []
    assert max(load.seconds) < 2.5
    assert events == ["worker ready", "worker due for recycling", "worker ready", "worker draining"]
    assert {event["reason"] for event in daemon.log_events("worker due for recycling")} == {"workers.max_memory"}
    assert time.monotonic() - begun >= 2.0  # several measurements, one second apart
