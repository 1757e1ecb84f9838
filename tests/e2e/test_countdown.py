"""The first example of asgid: Django streams countdowns to five browsers from one worker, and stays quick."""

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
NUMBERS = 32


def test_five_countdowns_run_past_the_30_s_mark_in_one_worker(start: Start) -> None:
    """Five streams count from 100 at the same time, one number a second. The index page takes less than 50 ms.

    On a slow machine it may take three times as long as without the streams. The test compares medians and the ninth
    decile: a stream that delays the others, or that is buffered, changes them; one slow second does not.
    """
    daemon = start(
        "countdown:application",
        app={"directory": str(EXAMPLE), "env": {"COUNTDOWN_FROM": "100", "COUNTDOWN_PACE_S": "1"}},
        workers={"count": 1},
        timeouts={"graceful": "1s"},
    )
    worker = daemon.workers()
    arrivals: list[list[tuple[float, int]]] = [[] for _ in range(STREAMS)]
    failures: list[BaseException] = []

    def page(client: Client) -> float:
        """Return how many seconds the index page takes."""
        sent_at = time.monotonic()
        assert b"Countdown" in client.get("/").body
        return time.monotonic() - sent_at

    def count(seen: list[tuple[float, int]]) -> None:
        try:
            with Client(daemon.address()) as client:
                client.send(request("GET", "/sse/", {"Accept": "text/event-stream"}))
                head = client.head()
                assert head.headers["content-type"].startswith("text/event-stream")
                while len(seen) < NUMBERS:
                    number = number_of(client.chunk())
                    seen.append((time.monotonic() - begun, number))
        except BaseException as error:  # noqa: BLE001 - the test reports it in its own thread
            failures.append(error)

    page_s = []
    with Client(daemon.address()) as client:
        page(client)  # the first request imports modules that the others use
        alone_s = statistics.median(page(client) for _ in range(50))
        begun = time.monotonic()
        threads = [in_thread(partial(count, seen)) for seen in arrivals]
        pace = threading.Event()
        while any(thread.is_alive() for thread in threads):
            page_s.append(page(client))
            pace.wait(0.1)

    assert failures == []
    for seen in arrivals:
        numbers = [number for _, number in seen]
        gaps = [after - before for (before, _), (after, _) in pairwise(seen)]
        assert list(range(100, 100 - NUMBERS, -1)) == numbers
        assert seen[-1][0] > 30
        assert 0.5 < statistics.median(gaps) < 1.5  # one at a time: buffered numbers would arrive together
        assert max(gaps) < 5
    quick_s = max(0.05, 3 * alone_s)
    assert len(page_s) > 100
    assert statistics.median(page_s) < quick_s
    assert statistics.quantiles(page_s, n=10)[-1] < quick_s
    assert daemon.workers() == worker


def number_of(chunk: bytes) -> int:
    fields = dict(line.split(": ", 1) for line in chunk.decode().strip().splitlines())
    assert fields["event"] == "i"
    return int(json.loads(fields["data"])["i"])
