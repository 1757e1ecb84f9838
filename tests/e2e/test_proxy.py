"""Behind proxies, as the installed program: the client that the application and the access log name."""

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from struct import pack
from typing import Any

import pytest

from tests.client import Client, request
from tests.conftest import Start
from tests.daemon import Daemon, eventually

FORWARDED = {"X-Forwarded-For": "203.0.113.9, 192.0.2.1", "X-Forwarded-Proto": "https"}
ENDS = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.9") + pack("!HH", 4711, 443)
TLS = pack("!BHBI", 0x20, 5, 1, 0)


def v2(command: int, family: int, rest: bytes) -> bytes:
    return b"\r\n\r\n\0\r\nQUIT\n" + pack("!BBH", command, family, len(rest)) + rest


HEADERS = {"v1": b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n", "v2": v2(0x21, 0x11, ENDS + TLS)}


def scope_of(address: str, headers: Mapping[str, str] | None = None, header: bytes = b"") -> dict[str, Any]:
    """Return the scope that the application receives over a new connection that begins with `header`."""
    with Client(address) as client:
        client.send(header + request("GET", "/a", {"Connection": "close", **(headers or {})}))
        answer: dict[str, Any] = json.loads(client.answer().body)
        return answer


def access_lines(daemon: Daemon) -> list[str]:
    return (daemon.directory / "stdout").read_text().splitlines()


def test_forwarding_headers_of_a_trusted_proxy_name_the_client(start: Start) -> None:
    """Loopback is trusted by default, but not after a reload that trusts others. The access log agrees."""
    daemon = start("client:application")
    address = daemon.address()
    forwarded = scope_of(address, FORWARDED)

    assert (["192.0.2.1", 0], "https") == (forwarded["client"], forwarded["scheme"])
    assert "127.0.0.1" == scope_of(address)["client"][0]
    eventually(lambda: 2 == len(access_lines(daemon)))
    assert ["127.0.0.1", "192.0.2.1"] == sorted(line.split()[0] for line in access_lines(daemon))

    daemon.configure(proxy={"trusted": ["192.0.2.0/24", "unix"]})
    reload(daemon)
    distrusted = scope_of(address, FORWARDED)
    assert ("127.0.0.1", "http") == (distrusted["client"][0], distrusted["scheme"])


def test_a_proxy_on_a_unix_socket_is_trusted(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    unix = f"unix:{path}"
    daemon = start("client:application", listen=[{"bind": unix}], proxy={"host": True, "prefix": True})
    more = {"X-Forwarded-Host": "a.example", "X-Forwarded-Prefix": "/api"}

    assert {"client": ["192.0.2.1", 0], "scheme": "https", "host": "a.example", "path": "/api/a"} == scope_of(
        unix, FORWARDED | more
    )
    daemon.configure(proxy={"trusted": ["127.0.0.1"]})
    reload(daemon)
    assert {"client": None, "scheme": "http", "host": "test.invalid", "path": "/a"} == scope_of(unix, FORWARDED | more)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_proxy_protocol_names_the_client(start: Start, version: str) -> None:
    """On one listener, and not on the other. A connection without the header is closed, counted and logged."""
    listen = [{"bind": "127.0.0.1:0", "proxy_protocol": version}, {"bind": f"unix:@asgid-test-{os.getpid()}"}]
    names = ("balanced", "own")
    daemon = start(
        "client:application", listen=[table | {"name": name} for table, name in zip(listen, names, strict=True)]
    )
    balanced, own = daemon.address("balanced"), daemon.address("own")
    answer = scope_of(balanced, header=HEADERS[version])

    assert (["192.0.2.1", 4711], "https" if version == "v2" else "http") == (answer["client"], answer["scheme"])
    assert "http" == scope_of(own)["scheme"]
    eventually(lambda: [line for line in access_lines(daemon) if line.startswith("192.0.2.1 ")])

    for data in (request("GET"), HEADERS["v1" if version == "v2" else "v2"] + request("GET")):
        with Client(balanced) as client:
            client.send(data)
            assert b"" == client.rest()
    eventually(lambda: 2 == daemon.metric("asgid_http_protocol_errors_total", kind="proxy"))
    assert {"balanced"} == {line["listener"] for line in refusals(daemon)}


def test_health_checks_and_a_reload_work_behind_a_balancer(start: Start) -> None:
    """A client that connects and leaves does not count as an error; a reload turns the protocol off for new clients."""
    timeouts = {"header": "5m", "graceful": "5m"}
    daemon = start("client:application", listen=[{"bind": "127.0.0.1:0", "proxy_protocol": "any"}], timeouts=timeouts)
    address, old = daemon.address(), daemon.workers()
    for header in (b"", v2(0x20, 0x00, b"")):
        with Client(address) as client:
            client.send(header)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
    assert "192.0.2.1" == scope_of(address, header=HEADERS["v1"])["client"][0]
    with Client(address) as silent:
        daemon.eventually(lambda: 1 == daemon.metric("asgid_connections"))
        daemon.configure(listen=[{"bind": "127.0.0.1:0", "proxy_protocol": "off"}])
        assert "reload committed" == daemon.reload()["event"]
        eventually(lambda: not any(is_serving(pid) for pid in old))
        silent.send(HEADERS["v1"] + request("GET"))
        answer = silent.answer()
        assert ("192.0.2.1", True) == (json.loads(answer.body)["client"][0], answer.closes)
    eventually(lambda: 2 == len(daemon.log_events("worker exited")))

    assert "127.0.0.1" == scope_of(address)["client"][0]
    assert not refusals(daemon)
    assert 0 == daemon.metric("asgid_http_protocol_errors_total")


def is_serving(pid: int) -> bool:
    """Return whether a worker has not read an order to drain."""
    try:
        return b"ready" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has exited
        return False


def reload(daemon: Daemon) -> None:
    """Reload, and wait until both workers with the old settings have exited."""
    assert "reload committed" == daemon.reload()["event"]
    eventually(lambda: 2 == len(daemon.log_events("worker exited")))


def refusals(daemon: Daemon) -> list[dict[str, Any]]:
    return daemon.log_events("connection refused for its PROXY header")
