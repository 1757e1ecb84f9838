"""The end of a worker: threads and tasks of the application may finish within the grace, and delay no stop after it."""

import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import Start

CASES = {
    "thread": ("threads did not end", "consumer ("),
    "executor": ("threads did not end", "in never_returns"),
    "task": ("tasks did not end when cancelled", "poller ("),
    "generator": ("asynchronous generators did not end", "lasts.py"),
    "exit": ("exit handlers did not end", "in never_returns"),
    "child": ("exit handlers did not end", ""),
    "lifespan": ("tasks did not end when cancelled", "lifespan ("),
}


@pytest.mark.parametrize("kind", CASES)
def test_work_that_does_not_end_is_named_and_delays_no_stop(start: Start, tmp_path: Path, kind: str) -> None:
    """Exit handlers run, and the worker exits with 0 by itself: with `kill` at 60 s, no signal can have ended it."""
    marks = tmp_path / "marks"
    daemon = start(
        "lasts:application",
        workers={"count": 1},
        app={"env": {"KIND": kind, "MARKS": str(marks)}},
        timeouts={"graceful": "2s", "kill": "60s"},
    )
    children = psutil.Process(daemon.workers()[0]).children()
    try:
        assert daemon.stop(within=20) == 0
    finally:
        for child in children:
            child.kill()
            child.wait(10)

    event, name = CASES[kind]
    (warning,) = daemon.log_events("threads did not end", *{event for event, _ in CASES.values()})
    assert warning["event"] == event
    assert name in " ".join(map(str, warning.values()))
    assert daemon.log_events("worker exited")[0]["code"] == 0
    assert daemon.log_events(level="error") == []
    if kind not in {"exit", "child"}:
        assert marks.read_text().splitlines()[-1] == "exit handler"


@pytest.mark.parametrize(("kind", "done"), [("job", ["finished"]), ("loop", ["finished"]), ("daemon", [])])
def test_a_job_may_finish_within_the_grace(start: Start, tmp_path: Path, kind: str, done: list[str]) -> None:
    """A job may also wait for the event loop. asgid does not wait for daemon threads, as Python does not."""
    marks = tmp_path / "marks"
    daemon = start("lasts:application", workers={"count": 1}, app={"env": {"KIND": kind, "MARKS": str(marks)}})
    begun = time.monotonic()
    daemon.signal("TERM")
    assert daemon.wait() == 0

    assert marks.read_text().splitlines() == ["shutdown", *done, "exit handler"]
    assert time.monotonic() - begun < 15, "the grace is 5 s, and there would be ABRT after it"
    assert daemon.log_events(level="error") + daemon.log_events(level="warning", event="threads did not end") == []
