"""The messages to systemd over NOTIFY_SOCKET: sd_notify(3), systemd.service(5) on Type=notify-reload."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client import Client, get, request
from tests.conftest import Start
from tests.daemon import WITHIN_S, Daemon

Message = dict[str, str]


class Manager:
    """The other end of NOTIFY_SOCKET: receives the messages of a service, in order."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.address)
        self.socket.settimeout(WITHIN_S)

    def receive(self) -> Message:
        """Wait for the next message and return its assignments; raises TimeoutError if none comes."""
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())

    def receive_any(self, *names: str) -> Message:
        """Return the next message that assigns one of `names`; skips those that only change the status line."""
        while not (message := self.receive()).keys() & set(names):
            pass
        return message


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    with manager.socket:
        yield manager


def test_ready_is_sent_when_requests_are_answered_and_not_before(launch: Start, manager: Manager) -> None:
    """Before that the master requests the time of timeouts.boot, because TimeoutStartSec= may be shorter."""
    started_at = time.monotonic()
    daemon = launch(
        "slow_boot:application",
        app={"env": {"SLOW_BOOT_S": "3"}},
        timeouts={"boot": "20s"},
        environment={"NOTIFY_SOCKET": manager.address},
    )
    daemon.eventually(lambda: daemon.log_events("worker started"))

    assert int(manager.receive()["EXTEND_TIMEOUT_USEC"]) > 20 * 1_000_000

    with Client(daemon.address()) as early:
        early.send(request("GET", "/"))
        assert manager.receive_any("READY")["READY"] == "1"
        ready_at = time.monotonic()
        assert early.answer().status == 200
        assert get(daemon.address()).status == 200
        answered_at = time.monotonic()

    assert ready_at - started_at > 3
    assert answered_at - ready_at < 2.5


def break_the_file(daemon: Daemon) -> None:
    daemon.file.write_text("[app\n")


def change_nothing(daemon: Daemon) -> None:
    pass


def raise_at_import(daemon: Daemon) -> None:
    daemon.configure(app={"target": "raises_at_import:application"})


RELOADS = [
    (change_nothing, "reload committed"),
    (raise_at_import, "reload rolled back"),
    (break_the_file, "reload refused"),
]


@pytest.mark.parametrize(("change", "event"), RELOADS, ids=[event for _, event in RELOADS])
def test_a_reload_is_sent_to_systemd_at_its_start_and_at_its_verdict(
    start: Start, manager: Manager, change, event: str
) -> None:
    """RELOADING=1 with the time of the start, then READY=1 with any verdict: systemd waits for it."""
    daemon = start(environment={"NOTIFY_SOCKET": manager.address})
    manager.receive_any("READY")
    change(daemon)
    before = time.monotonic_ns() // 1000
    verdict = daemon.reload()
    after = time.monotonic_ns() // 1000

    reloading = manager.receive_any("RELOADING", "READY")
    ready = manager.receive_any("RELOADING", "READY")

    assert verdict["event"] == event
    assert reloading["RELOADING"] == "1"
    assert before <= int(reloading["MONOTONIC_USEC"]) <= after
    assert ready["READY"] == "1"
    assert verdict.get("reason", "committed")[:40] in ready["STATUS"]


def test_a_stop_is_sent_to_systemd_when_it_begins(start: Start, manager: Manager, tmp_path: Path) -> None:
    """It requests the time that the settings allow: TimeoutStopSec= would end a longer drain too early."""
    gate = tmp_path / "gate"
    timeouts = {"graceful": "1m"}
    environment = {"NOTIFY_SOCKET": manager.address}
    daemon = start("gate:application", app={"env": {"GATE": str(gate)}}, timeouts=timeouts, environment=environment)
    manager.receive_any("READY")
    with Client(daemon.address()) as client:
        client.send(request("GET", "/"))
        assert client.head().status == 200

        daemon.signal("TERM")

        stopping = manager.receive_any("STOPPING", "READY", "RELOADING")

        assert stopping["STOPPING"] == "1"
        assert int(stopping["EXTEND_TIMEOUT_USEC"]) > daemon.log_events("stopping")[0]["within_s"] * 1_000_000
        assert daemon.is_running
        gate.touch()
        assert daemon.wait() == 0
