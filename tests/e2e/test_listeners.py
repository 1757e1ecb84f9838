"""Listening sockets of every kind, as clients see them: at the start, over a HUP, and if another server has them."""

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client, Load, get, is_refused, request
from tests.conftest import Start
from tests.daemon import DEFAULTS, as_systemd, eventually

FIRST: list[dict[str, Any]] = DEFAULTS["listen"]


@pytest.fixture
def given() -> Iterator[list[socket.socket]]:
    """Four sockets that listen before asgid starts and after it ends."""
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]


def address_of(sock: socket.socket) -> str:
    return "{}:{}".format(*sock.getsockname())


def all_refused(addresses: list[str]) -> bool:
    return all(map(is_refused, addresses))


def ipv6() -> list[dict[str, Any]]:
    """Return a listener on ::1, or none if this machine has no such address."""
    try:
        with closing(socket.socket(socket.AF_INET6)) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return []
    return [{"bind": "[::1]:0"}]


def test_listeners_of_every_kind_answer_side_by_side(start: Start, tmp_path: Path, given: list[socket.socket]) -> None:
    """All answer before and after a HUP, also two sockets of one systemd unit, which have the same name."""
    *of_unit, admin, plain = given
    number = fcntl.fcntl(plain.fileno(), fcntl.F_DUPFD, 50)  # above the descriptors that systemd passes
    file, name = tmp_path / "shop.sock", f"@asgid-test-{os.getpid()}"
    kinds = [
        *FIRST,
        *ipv6(),
        {"bind": f"unix:{file}", "mode": "0600"},
        {"bind": f"unix:{name}"},
        {"bind": f"fd:{number}"},
        {"bind": "systemd:http"},
        {"bind": "systemd:admin"},
    ]
    daemon = start(
        listen=kinds,
        prefix=as_systemd(*(("http", sock.fileno()) for sock in of_unit), ("admin", admin.fileno())),
        descriptors=(number, *(sock.fileno() for sock in given)),
    )
    os.close(number)
    inode = file.stat().st_ino
    found = [event["address"] for event in daemon.log_events("listening")]

    assert set(found) == {daemon.address(), f"unix:{file}", f"unix:{name}", *map(address_of, given)} | {
        daemon.address(table["bind"]) for table in ipv6()
    }
    assert {b"hello"} == {get(address).body for address in found}
    for event in daemon.log_events("listening"):
        assert event.get("url") == (None if "unix:" in event["address"] else f"http://{event['address']}/")

    daemon.configure(listen=[table | {"mode": "0666"} if "mode" in table else table for table in kinds])

    assert daemon.reload()["event"] == "reload committed"

    eventually(lambda: {worker["generation"] for worker in daemon.status()["workers"]} == {2})
    assert {b"hello"} == {get(address).body for address in found for _ in range(4)}
    assert (file.stat().st_ino, stat.S_IMODE(file.stat().st_mode)) == (inode, 0o666)
    assert daemon.metric("asgid_listener_backlog_limit", listener="systemd:http") == 2 * daemon.metric(
        "asgid_listener_backlog_limit", listener="systemd:admin"
    )


def test_sockets_of_systemd_are_served_without_a_setting(start: Start, given: list[socket.socket]) -> None:
    """A reload without one of them is rolled back, because the clients of that socket would wait forever."""
    passed = as_systemd(*(("http", sock.fileno()) for sock in given))
    daemon = start(listen=None, prefix=passed, descriptors=tuple(sock.fileno() for sock in given))

    assert {b"hello"} == {get(address_of(sock)).body for sock in given}
    assert daemon.reload()["event"] == "reload committed"

    daemon.configure(listen=[*FIRST])
    verdict = daemon.reload()

    assert ("reload rolled back", True) == (verdict["event"], "nothing listens on systemd:http" in verdict["reason"])
    assert {b"hello"} == {get(address_of(sock)).body for sock in given}


def test_a_socket_of_systemd_without_a_listener_fails_the_start(launch: Start, given: list[socket.socket]) -> None:
    """The exit code is 69, and the message names the socket, before any worker exists."""
    daemon = launch(listen=[*FIRST], prefix=as_systemd(("http", given[0].fileno())), descriptors=(given[0].fileno(),))

    assert daemon.wait() == 69
    assert "nothing listens on systemd:http, which systemd passed" in daemon.log_text()
    assert not daemon.log_events("worker started")


def test_a_kept_listener_loses_no_client_while_others_come_and_go(start: Start, tmp_path: Path) -> None:
    """Ten HUPs under load: each adds two listeners, and removes the two that the HUP before added."""
    daemon = start()
    before: list[str] = []

    with (
        Load(daemon.address(), connections=2) as kept,
        Load(daemon.address(), connections=2, headers={"Connection": "close"}) as new,
    ):
        for number in range(10):
            tcp, file = f"127.0.0.{2 + number}:0", tmp_path / f"{number}.sock"
            daemon.configure(listen=[*FIRST, {"bind": tcp}, {"bind": f"unix:{file}"}])

            assert daemon.reload()["event"] == "reload committed"

            added = [daemon.address(tcp), f"unix:{file}"]
            assert {b"hello"} == {get(address).body for address in added}
            eventually(partial(all_refused, before))
            before = added
        eventually(lambda: min(len(kept.seconds), len(new.seconds)) > 500)

    assert kept.failures == new.failures == []
    assert max(kept.seconds + new.seconds) < 5


def test_a_reload_to_another_name_of_the_same_socket_loses_no_client(start: Start) -> None:
    """From 127.0.0.1:P to localhost:P and back. A change to 0.0.0.0:P needs a restart, as the verdict explains."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    daemon = start(listen=[{"bind": f"127.0.0.1:{port}"}], workers={"count": 1})
    with Load(f"127.0.0.1:{port}", connections=2, headers={"Connection": "close"}) as load:
        for host in ("localhost", "127.0.0.1"):
            daemon.configure(listen=[{"bind": f"{host}:{port}"}])

            assert daemon.reload()["event"] == "reload committed"
        daemon.configure(listen=[{"bind": f"0.0.0.0:{port}"}])
        verdict = daemon.reload()

    assert verdict["event"] == "reload rolled back"
    assert f"asgid itself listens on 127.0.0.1:{port}" in verdict["reason"]
    assert "only a restart" in verdict["reason"]
    assert load.failures == []


def test_a_removed_address_is_refused_while_an_old_worker_still_has_a_request(start: Start, tmp_path: Path) -> None:
    """After the commit no new client waits for the worker that drains; the client from before gets its answer."""
    gate = tmp_path / "gate"
    second = {"bind": "127.0.0.2:0", "name": "second"}
    settings = {"listen": [*FIRST, second], "timeouts": {"graceful": "1m"}}
    daemon = start("gate:application", app={"env": {"GATE": str(gate)}}, **settings)
    with Client(daemon.address("second")) as client:
        client.send(request("GET"))
        assert client.head().status == 200

        daemon.configure(listen=FIRST)
        assert daemon.reload()["event"] == "reload committed"
        eventually(lambda: is_refused(daemon.address("second")))

        assert "draining" in {worker["state"] for worker in daemon.status()["workers"]}
        gate.touch()
        assert b"".join(iter(client.chunk, b"")) == b"held most=1"


# Socket files of other servers


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shop.sock"


def bind(file: Path) -> socket.socket:
    """Return another server's socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(file))
    sock.listen(8)
    return sock


def test_the_file_of_a_living_server_rolls_a_reload_back(start: Start, file: Path, tmp_path: Path) -> None:
    """The other server keeps its file, the file that the reload had bound is removed, and the old listeners answer."""
    fresh = tmp_path / "fresh.sock"
    daemon = start()
    with bind(file):
        inode = file.stat().st_ino
        daemon.configure(listen=[*FIRST, {"bind": f"unix:{fresh}"}, {"bind": f"unix:{file}"}])
        verdict = daemon.reload()

        assert verdict["event"] == "reload rolled back"
        assert f"cannot listen on unix:{file}: another server answers there" in verdict["reason"]
        assert daemon.status()["last_reload"]["verdict"] == "rolled_back"
        assert not fresh.exists()
        assert file.stat().st_ino == inode
        assert get(daemon.address()).body == b"hello"


def test_a_reload_that_is_rolled_back_removes_the_listeners_that_it_bound(start: Start, file: Path) -> None:
    """A canary that cannot boot leaves no file, and no address that accepts and never answers."""
    daemon = start()
    daemon.configure(
        app={"target": "raises_at_import:application"},
        listen=[*FIRST, {"bind": "127.0.0.2:0"}, {"bind": f"unix:{file}"}],
    )

    assert daemon.reload()["event"] == "reload rolled back"

    eventually(lambda: is_refused(daemon.address("127.0.0.2:0")))
    assert not file.exists()
    assert get(daemon.address()).body == b"hello"
