"""Every setting that is a number, at both of its ends, in a daemon that serves, reloads and stops."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from asgid.config import TABLES
from asgid.config.value_types import UNLIMITED, ValueType
from tests.client import Client, get, request
from tests.conftest import Start
from tests.daemon import WITHIN_S, Daemon, asgid, eventually

LONGEST = "366d"
#: Two workers serve in each of these daemons, and listeners are a list of tables.
_LEFT_ALONE = {("workers", "count"), ("listen", "backlog")}


def numbers() -> Iterator[tuple[str, str, ValueType]]:
    """Yield table, key and kind of each setting that is a duration, a size or a number."""
    for table, model in TABLES.items():
        for key, field in model.settings().items():
            kind = next((item for item in field.metadata if isinstance(item, ValueType)), None)
            if kind and kind.name.startswith(("duration", "size", "whole")) and (table, key) not in _LEFT_ALONE:
                yield table, key, kind


def largest(kind: ValueType) -> object:
    if kind.name.startswith("duration"):
        return LONGEST
    return UNLIMITED - 1 if kind.name.startswith("size") else _bound(kind, "maximum")


def _bound(kind: ValueType, name: str) -> object:
    return kind.schema.get(name) or next(each[name] for each in kind.schema["anyOf"] if name in each)  # type: ignore[attr-defined]


LARGEST: dict[str, dict[str, Any]] = {}
for _table, _key, _kind in numbers():
    LARGEST.setdefault(_table, {})[_key] = largest(_kind)

#: What still serves a request of 200 bytes. A duration of a millisecond that ends a client's request is not among them.
SMALLEST: dict[str, dict[str, Any]] = {
    "workers": {"max_requests": 1, "max_requests_jitter": 1, "threads": 1},
    "timeouts": {
        "heartbeat": "500ms",
        "blocked": "100ms",
        "graceful": 0,
        "kill": "1ms",
        "slow_request": 5e-324,
        "keep_alive": 1e-9,
    },
    "limits": {
        "connections": 1,
        "requests": 1,
        "queue": 1,
        "queue_timeout": "1ms",
        "request_line": 30,
        "header_size": 200,
        "header_count": 2,
        "body": 1,
    },
    "reload": {"surge": 1, "settle": 0},
    "websocket": {"max_message": 1, "queue": 1},
}


def test_every_number_is_among_the_largest() -> None:
    """A setting that is added later is tried, too."""
    assert len(list(numbers())) == sum(map(len, LARGEST.values())) > 25
    assert LARGEST["timeouts"]["graceful"] == LONGEST
    assert LARGEST["websocket"]["max_message"] == 2**63 - 2
    assert math.isfinite(LARGEST["limits"]["queue"])


def test_the_largest_values_serve_and_stop(start: Start) -> None:
    """A check takes them, requests and messages are answered, a reload begins, and an idle server stops."""
    daemon = start("echoes:application", **LARGEST)
    assert asgid("check", "-c", str(daemon.file), cwd=daemon.directory).returncode == 0
    with connect(f"ws://{daemon.address()}/", open_timeout=WITHIN_S, close_timeout=WITHIN_S) as socket:
        socket.send("x" * 100_000)
        assert socket.recv(timeout=WITHIN_S) == "x" * 100_000
    assert get(daemon.address()).status == 200
    daemon.signal("HUP")  # its canary would have to settle for a year
    eventually(lambda: daemon.log_events("worker ready", generation=2))

    assert daemon.stop() == 0
    assert problems(daemon) == []


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_the_longest_durations_end_no_master_that_drains(start: Start, tmp_path: Path, name: str) -> None:
    """With a request in hand it waits for more than epoll_wait(2) can: 24.8 days."""
    gate = tmp_path / "gate"
    durations = {key: value for key, value in LARGEST["timeouts"].items() if value == LONGEST}
    daemon = start("gate:application", app={"env": {"GATE": str(gate)}}, timeouts=durations)
    with Client(daemon.address()) as client:
        client.send(request("GET", "/"))
        client.head()
        daemon.signal(name)
        eventually(lambda: len(daemon.log_events("worker draining")) == 2)
        daemon.signal("USR1")
        eventually(lambda: daemon.log_events("log files reopened"))
        gate.touch()
        assert client.chunk() == b"held"
    eventually(lambda: daemon.log_events("worker exited", reason="shutdown" if name == "TERM" else "reload"))

    assert (daemon.wait() if name == "TERM" else daemon.stop()) == 0
    assert problems(daemon) == []


def test_the_smallest_values_serve_and_stop(start: Start) -> None:
    """Workers are recycled after each request meanwhile."""
    daemon = start("hello:application", **SMALLEST)
    assert asgid("check", "-c", str(daemon.file), cwd=daemon.directory).returncode == 0
    answers = [get(daemon.address()).status for _ in range(3)]

    assert answers == [200] * 3
    assert daemon.reload()["event"] == "reload committed"
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log_text()


def problems(daemon: Daemon) -> list[dict[str, Any]]:
    """Return the errors of its log."""
    return [line for line in daemon.log_events() if line["level"] == "error"]
