"""Each numeric setting with its min and its max value, in a daemon that serves, reloads and stops."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from asgid.config.tables import TABLES
from asgid.config.value_types import UNLIMITED, ValueType
from tests.client import Client, get, request
from tests.conftest import Start
from tests.daemon import WITHIN_S, Daemon, asgid, eventually

MAX_DURATION = "366d"
#: Each of these daemons has two workers, and `listen` is a list of tables.
_SKIPPED = {("workers", "count"), ("listen", "backlog")}


def numbers() -> Iterator[tuple[str, str, ValueType]]:
    """Yield table, key and type of each setting that is a duration, a size or an integer."""
    for table, model in TABLES.items():
        for key, field in model.settings().items():
            value_type = next((item for item in field.metadata if isinstance(item, ValueType)), None)
            if (
                value_type
                and value_type.name.startswith(("duration", "size", "whole"))
                and (table, key) not in _SKIPPED
            ):
                yield table, key, value_type


def max_value(value_type: ValueType) -> object:
    if value_type.name.startswith("duration"):
        return MAX_DURATION
    return UNLIMITED - 1 if value_type.name.startswith("size") else _bound(value_type, "maximum")


def _bound(value_type: ValueType, name: str) -> object:
    return value_type.schema.get(name) or next(each[name] for each in value_type.schema["anyOf"] if name in each)  # type: ignore[attr-defined]


MAX_VALUES: dict[str, dict[str, Any]] = {}
for _table, _key, _value_type in numbers():
    MAX_VALUES.setdefault(_table, {})[_key] = max_value(_value_type)

#: These values allow a request of 200 bytes. Deadlines for clients are omitted: a millisecond would end the request.
MIN_VALUES: dict[str, dict[str, Any]] = {
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


def test_every_numeric_setting_is_tested() -> None:
    assert len(list(numbers())) == sum(map(len, MAX_VALUES.values())) > 25
    assert MAX_VALUES["timeouts"]["graceful"] == MAX_DURATION
    assert MAX_VALUES["websocket"]["max_message"] == 2**63 - 2
    assert math.isfinite(MAX_VALUES["limits"]["queue"])


def test_a_daemon_with_max_values_serves_and_stops(start: Start) -> None:
    """A check accepts the values. The daemon answers requests and messages, begins a reload, and stops when idle."""
    daemon = start("echoes:application", **MAX_VALUES)
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
def test_a_master_with_max_durations_drains(start: Start, tmp_path: Path, name: str) -> None:
    """The master waits for a request with a timeout above the 24.8 days that epoll_wait(2) allows."""
    gate = tmp_path / "gate"
    durations = {key: value for key, value in MAX_VALUES["timeouts"].items() if value == MAX_DURATION}
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


def test_a_daemon_with_min_values_serves_and_stops(start: Start) -> None:
    """Workers are recycled after each request."""
    daemon = start("hello:application", **MIN_VALUES)
    assert asgid("check", "-c", str(daemon.file), cwd=daemon.directory).returncode == 0
    answers = [get(daemon.address()).status for _ in range(3)]

    assert answers == [200] * 3
    assert daemon.reload()["event"] == "reload committed"
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log_text()


def problems(daemon: Daemon) -> list[dict[str, Any]]:
    """Return the errors in the log."""
    return [line for line in daemon.log_events() if line["level"] == "error"]
