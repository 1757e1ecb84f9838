"""A worker that lets no Python run: its stack is taken in C, and comes out whatever becomes of it."""

import os
import signal
import time
from pathlib import Path

from tests.client import Client, request
from tests.conftest import Start
from tests.daemon import Daemon


def holding(daemon: Daemon, client: Client) -> int:
    """Have the worker behind `client` let no Python run; return its pid when the master has noticed."""
    pid = int(client.get().body)
    known = len(daemon.log_events("worker silent", pid=pid))
    client.send(request("GET", "/hold"))
    daemon.eventually(lambda: len(daemon.log_events("worker silent", pid=pid)) > known)
    return pid


def last_words(pid: int) -> str:
    """Return what stands in the memory file in which the worker's stacks are written."""
    (file,) = (fd for fd in Path(f"/proc/{pid}/fd").iterdir() if "asgid-last-words" in os.readlink(fd))
    return file.read_text()


def test_a_worker_that_lets_no_python_run_is_dumped_and_replaced(start: Start) -> None:
    """Nothing in it can act on the signal that asks for its stack; at timeouts.heartbeat a new worker has its place."""
    daemon = start("holds:application", timeouts={"heartbeat": "6s", "blocked": "2s"}, app={"env": {"HOLD_S": "60"}})
    with Client(daemon.address()) as client:
        held = holding(daemon, client)
        daemon.eventually(lambda: "never_lets_python_run" in last_words(held))
        end = daemon.eventually(lambda: daemon.log_events("worker exited", pid=held))[0]
        daemon.eventually(lambda: len({*daemon.workers()} - {held}) == 2)

    assert (end["reason"], end["signal"]) == ("blocked", "SIGABRT")
    assert "never_lets_python_run" in end["stack"]
    assert daemon.log_events("event loop blocked", pid=held) == []


def test_a_worker_that_is_killed_while_it_lets_no_python_run_has_left_its_stack(start: Start) -> None:
    """It was written when the master asked, so that whoever kills it sooner takes nothing away."""
    daemon = start("holds:application", timeouts={"blocked": "500ms"}, app={"env": {"HOLD_S": "60"}})
    with Client(daemon.address()) as client:
        held = holding(daemon, client)
        daemon.eventually(lambda: "never_lets_python_run" in last_words(held))

        os.kill(held, signal.SIGKILL)
        end = daemon.eventually(lambda: daemon.log_events("worker exited", pid=held))[0]

    assert end["signal"] == "SIGKILL"
    assert "never_lets_python_run" in end["stack"]


def test_a_worker_that_goes_on_says_itself_what_held_it_and_leaves_without_a_word(start: Start) -> None:
    """Each time once, with the request in hand; what was written in C is taken back, and does not pile up."""
    daemon = start(
        "holds:application", workers={"count": 1}, timeouts={"blocked": "1500ms"}, app={"env": {"HOLD_S": "4"}}
    )
    with Client(daemon.address()) as client:
        for number in (1, 2):
            held = holding(daemon, client)
            assert int(client.answer().body) == held
            blocked = daemon.log_events("event loop blocked", pid=held, requests="GET /hold")

            assert len(blocked) == number
            assert "never_lets_python_run" in blocked[-1]["stack"]
            daemon.eventually(lambda: last_words(held) == "")  # noqa: B023 - asked within this turn
            looked_at = time.monotonic() + 3  # by then the master has seen it turn: what comes is another silence
            daemon.eventually(lambda: time.monotonic() > looked_at)  # noqa: B023

    assert daemon.stop() == 0
    assert ["code" in end and "stack" not in end for end in daemon.log_events("worker exited")] == [True]
