"""The example that started it: Django streams countdowns to five browsers from one worker, and stays quick."""

import json
import statistics
import threading
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

from tests.client import Client, in_thread, request
from tests.conftest import Start

EXAMPLE = Path(__file__).parents[2] / "examples" / "django_countdown"
STREAMS = 5
LASTS_S = 31.5


def test_five_countdowns_run_past_the_30_s_mark_in_one_worker(start: Start) -> None:
    """Five streams count from 100 side by side, one number a second, past 30 s; the index answers in under 50 ms."""
    daemon = start(
        "countdown:application",
        app={"directory": str(EXAMPLE), "env": {"COUNTDOWN_FROM": "100", "COUNTDOWN_PACE_S": "1"}},
        workers={"count": 1},
        timeouts={"graceful": "1s"},
    )
    worker = daemon.workers()
    arrivals: list[list[tuple[float, int]]] = [[] for _ in range(STREAMS)]
    failures: list[BaseException] = []
    begun = time.monotonic()

    def count(seen: list[tuple[float, int]]) -> None:
        try:
            with Client(daemon.address()) as client:
                client.send(request("GET", "/sse/", {"Accept": "text/event-stream"}))
                head = client.head()
                assert head.headers["content-type"].startswith("text/event-stream")
                while time.monotonic() - begun < LASTS_S:
                    number = number_of(client.chunk())
                    seen.append((time.monotonic() - begun, number))
        except BaseException as error:  # noqa: BLE001 - told by the test, in its own thread
            failures.append(error)

    threads = [in_thread(partial(count, seen)) for seen in arrivals]
    page_s = []
    with Client(daemon.address()) as client:
        assert b"Countdown" in client.get("/").body  # the first request imports what the others use
        pace = threading.Event()
        while any(thread.is_alive() for thread in threads):
            asked = time.monotonic()
            assert client.get("/").status == 200
            page_s.append(time.monotonic() - asked)
            pace.wait(0.1)

    assert failures == []
    for seen in arrivals:
        numbers = [number for _, number in seen]
        gaps = [after - before for (before, _), (after, _) in pairwise(seen)]
        assert list(range(100, 100 - len(numbers), -1)) == numbers
        assert seen[-1][0] > 30
        assert len(numbers) > 30
        assert max(gaps) < 1.5
        assert min(gaps) > 0.5  # one at a time: what comes in heaps was held back
    assert len(page_s) > 100
    assert statistics.median(page_s) < 0.05
    assert max(page_s) < 0.05
    assert daemon.workers() == worker


def number_of(chunk: bytes) -> int:
    fields = dict(line.split(": ", 1) for line in chunk.decode().strip().splitlines())
    assert fields["event"] == "i"
    return int(json.loads(fields["data"])["i"])
