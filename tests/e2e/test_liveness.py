"""A worker in which C code blocks all Python code: its stack is written in C and logged, however the worker ends."""

import os
import signal
import time
from pathlib import Path

from tests.client import Client, request
from tests.conftest import Start
from tests.daemon import Daemon


def block_worker(daemon: Daemon, client: Client) -> int:
    """Block all Python code in the client's worker, and return its pid once the master has logged it as silent."""
    pid = int(client.get().body)
    known = len(daemon.log_events("worker silent", pid=pid))
    client.send(request("GET", "/hold"))
    daemon.eventually(lambda: len(daemon.log_events("worker silent", pid=pid)) > known)
    return pid


def last_words(pid: int) -> str:
    """Return the content of the memory file to which the worker's stacks are written."""
    (file,) = (fd for fd in Path(f"/proc/{pid}/fd").iterdir() if "asgid-last-words" in os.readlink(fd))
    return file.read_text()


def test_a_worker_that_blocks_python_leaves_its_stack_and_is_replaced(start: Start) -> None:
    """It cannot handle in Python the signal that requests its stack. At timeouts.heartbeat a new worker replaces it."""
    daemon = start("holds:application", timeouts={"heartbeat": "6s", "blocked": "2s"}, app={"env": {"HOLD_S": "60"}})
    with Client(daemon.address()) as client:
        held = block_worker(daemon, client)
        daemon.eventually(lambda: "never_lets_python_run" in last_words(held))
        end = daemon.eventually(lambda: daemon.log_events("worker exited", pid=held))[0]
        daemon.eventually(lambda: len({*daemon.workers()} - {held}) == 2)

    assert (end["reason"], end["signal"]) == ("blocked", "SIGABRT")
    assert "never_lets_python_run" in end["stack"]
    assert daemon.log_events("event loop blocked", pid=held) == []


def test_a_worker_that_is_killed_while_it_blocks_python_has_left_its_stack(start: Start) -> None:
    """The stack was written when the master requested it, so that an earlier kill does not lose it."""
    daemon = start("holds:application", timeouts={"blocked": "500ms"}, app={"env": {"HOLD_S": "60"}})
    with Client(daemon.address()) as client:
        held = block_worker(daemon, client)
        daemon.eventually(lambda: "never_lets_python_run" in last_words(held))

        os.kill(held, signal.SIGKILL)
        end = daemon.eventually(lambda: daemon.log_events("worker exited", pid=held))[0]

    assert end["signal"] == "SIGKILL"
    assert "never_lets_python_run" in end["stack"]


def test_a_worker_that_runs_again_logs_its_block_itself_and_exits_without_a_stack(start: Start) -> None:
    """It logs each block once, with the request in progress, and then removes the stack that C code wrote."""
    daemon = start(
        "holds:application", workers={"count": 1}, timeouts={"blocked": "1500ms"}, app={"env": {"HOLD_S": "4"}}
    )
    with Client(daemon.address()) as client:
        for number in (1, 2):
            held = block_worker(daemon, client)
            assert int(client.answer().body) == held
            blocked = daemon.log_events("event loop blocked", pid=held, requests="GET /hold")

            assert len(blocked) == number
            assert "never_lets_python_run" in blocked[-1]["stack"]
            daemon.eventually(lambda: last_words(held) == "")  # noqa: B023 - asked within this turn
            looked_at = time.monotonic() + 3  # by then the master has seen the loop run: the next silence is a new one
            daemon.eventually(lambda: time.monotonic() > looked_at)  # noqa: B023

    assert daemon.stop() == 0
    assert ["code" in end and "stack" not in end for end in daemon.log_events("worker exited")] == [True]
