"""nginx and HAProxy in front of asgid, with the settings of docs/operations.md: client address, bodies, WebSockets.

The client comes from 127.0.0.2, which is not trusted: the scope has the proxy's headers, and not those of the client.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.client import Answer, BrokenAnswer, Client, Load, request
from tests.conftest import Start
from tests.daemon import Daemon, eventually
from tests.system import documents, needs
from tests.system.conftest import Run

STRANGER = "127.0.0.2"
LIE = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
Port = Callable[[], int]

NGINX = """\
{first}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
{servers}
"""
HTTP = """\
http {{
access_log off;
client_body_temp_path {directory}/body;
proxy_temp_path {directory}/proxy;
fastcgi_temp_path {directory}/fastcgi;
uwsgi_temp_path {directory}/uwsgi;
scgi_temp_path {directory}/scgi;
{servers}
}}
"""
HAPROXY = """\
defaults
    timeout connect 30s
    timeout client 30s
    timeout server 30s
frontend test
    mode {mode}
    bind 127.0.0.1:{port}
    default_backend myapp
{backend}    mode {mode}
"""


def from_stranger(address: str, path: str = "/a", **headers: str) -> Answer:
    """Return the answer to a GET for `path` from an address that is not trusted, over a new connection."""
    with Client(address, source=STRANGER) as client:
        return client.get(path, **headers)


def scope_of(address: str, path: str = "/a", **headers: str) -> dict[str, Any]:
    """Return the scope that the application received for a stranger's request."""
    answer: dict[str, Any] = json.loads(from_stranger(address, path, **headers).body)
    return answer


def is_up(address: str) -> bool:
    """Return whether the application answers, and not only the proxy."""
    try:
        return from_stranger(address).status < 502
    except (OSError, BrokenAnswer):
        return False


def nginx(run: Run, directory: Path, servers: str, modules: str = "") -> None:
    # If root starts nginx, its workers run as another user, which may not enter the directory of a test.
    first = modules + ("user root;" if os.geteuid() == 0 else "")
    file = directory / "nginx.conf"
    file.write_text(NGINX.format(first=first, directory=directory, servers=servers))
    run(needs.program("nginx"), "-c", str(file), "-e", "stderr", "-p", str(directory))


@pytest.fixture
def behind_nginx(start: Start, run: Run, port: Port, tmp_path: Path) -> Callable[..., tuple[Daemon, str]]:
    """Return a function that starts asgid on a unix socket, and nginx in front with the settings of the document.

    It returns the daemon and the address of nginx.
    """

    def both(target: str, **tables: Any) -> tuple[Daemon, str]:
        needs.program("nginx")
        path, address = tmp_path / "http.sock", f"127.0.0.1:{port()}"
        daemon = start(target, listen=[{"bind": f"unix:{path}"}], **tables)
        changes = {"/run/myapp/http.sock": str(path), "443 ssl": address}
        servers = documents.block("upstream myapp {", changes)
        nginx(run, tmp_path, HTTP.format(directory=tmp_path, servers=servers))
        eventually(lambda: is_up(address))
        return daemon, address

    return both


def test_nginx_names_the_client(behind_nginx: Callable[..., tuple[Daemon, str]]) -> None:
    daemon, address = behind_nginx("client:application", proxy={"prefix": True})
    seen = scope_of(address, **LIE)
    mounted = scope_of(address, "/shop/basket", Host="shop.example")
    before = daemon.metric("asgid_connections_accepted_total")
    with Client(address) as client:
        assert [200] * 50 == [client.get().status for _ in range(50)]

    assert ([STRANGER, 0], "http", "/a") == (seen["client"], seen["scheme"], seen["path"])
    assert ("/shop/basket", "shop.example") == (mounted["path"], mounted["host"])
    assert daemon.metric("asgid_connections_accepted_total") - before <= 4


@pytest.mark.parametrize("path", ["/a", "/ws/a", "/shop/a"])
def test_a_client_without_a_host_is_served_behind_nginx(
    behind_nginx: Callable[..., tuple[Daemon, str]], path: str
) -> None:
    """HTTP/1.0 represents HTTP/3 here: neither has a Host header, so nginx's $http_host is empty for both."""
    _, address = behind_nginx("client:application")
    with Client(address) as client:
        client.send(b"GET %s HTTP/1.0\r\n\r\n" % path.encode())
        answer = client.answer()

    assert (200, "shop.example") == (answer.status, json.loads(answer.body)["host"])


def test_a_reload_behind_nginx_costs_no_request(behind_nginx: Callable[..., tuple[Daemon, str]]) -> None:
    """Also over the kept connections of nginx, which the old workers close."""
    daemon, address = behind_nginx("hello:application")
    with Load(address) as load:
        for _ in range(3):
            seen = len(load.seconds)
            assert daemon.reload()["event"] == "reload committed"
            eventually(lambda: len(load.seconds) > seen + 50)  # noqa: B023 - asked within this turn

    assert load.failures == []
    assert load.bodies == {b"hello"}


def test_a_body_passes_nginx(behind_nginx: Callable[..., tuple[Daemon, str]]) -> None:
    _, address = behind_nginx("path:application")
    body = b"x" * 1_000_000
    with Client(address) as client:
        assert client.post(body, "/a").body == b"POST /a 1000000"
        client.send(request("PUT", "/b", {"Transfer-Encoding": "chunked"}))
        client.send(b"a\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (body[:10], len(body), body))
        assert client.answer().body == b"PUT /b 1000010"


def test_a_websocket_passes_nginx(behind_nginx: Callable[..., tuple[Daemon, str]]) -> None:
    daemon, address = behind_nginx("mirror:application")
    with connect(f"ws://{address}/ws/", proxy=None) as client:
        for message in ("größer", b"\0" * 100_000):
            client.send(message)
            assert client.recv(timeout=10) == message
        assert daemon.reload()["event"] == "reload committed"
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=10)

    assert client.close_code == 1012


def test_nginx_sends_version_1_of_the_proxy_protocol(start: Start, run: Run, port: Port, tmp_path: Path) -> None:
    """Its stream module passes bytes and does not read headers."""
    module = needs.program("/usr/lib/nginx/modules/ngx_stream_module.so")
    needs.program("nginx")
    daemon = start("client:application", listen=[{"bind": "127.0.0.1:0", "proxy_protocol": "v1"}])
    address = f"127.0.0.1:{port()}"
    changes = {"listen 80;": f"listen {address};", "127.0.0.1:8000": daemon.address()}
    nginx(run, tmp_path, documents.block("stream {", changes), f"load_module {module};\n")
    eventually(lambda: is_up(address))
    with Client(address, source=STRANGER) as client:
        own, _ = client.socket.getsockname()[:2], client.get()
        seen = json.loads(client.get(**LIE).body)

    assert (list(own), "http") == (seen["client"], seen["scheme"])


def haproxy(run: Run, directory: Path, port: int, mode: str, backend: str) -> str:
    file = directory / "haproxy.cfg"
    file.write_text(HAPROXY.format(port=port, mode=mode, backend=backend))
    run(needs.program("haproxy"), "-q", "-f", str(file))
    address = f"127.0.0.1:{port}"
    eventually(lambda: is_up(address))
    return address


def test_haproxy_names_the_client_by_headers(start: Start, run: Run, port: Port, tmp_path: Path) -> None:
    """asgid answers HAProxy's health checks like other requests."""
    needs.program("haproxy")
    daemon = start("client:application")
    changes = {"127.0.0.1:8000": daemon.address()}
    backend = documents.block("backend myapp\n", changes)
    address = haproxy(run, tmp_path, port(), "http", backend)
    seen = scope_of(address, **LIE)

    assert ([STRANGER, 0], "http") == (seen["client"], seen["scheme"])
    assert daemon.log_events("request refused") == []


def test_haproxy_sends_version_2_of_the_proxy_protocol(start: Start, run: Run, port: Port, tmp_path: Path) -> None:
    """With the TLS fields that it adds; its health checks, which connect and leave, do not count as errors."""
    needs.program("haproxy")
    daemon = start("client:application", listen=[{"bind": "127.0.0.1:0", "proxy_protocol": "v2"}])
    changes = {"127.0.0.1:8000": daemon.address(), "check check-send-proxy": "check check-send-proxy inter 100ms"}
    address = haproxy(run, tmp_path, port(), "tcp", documents.block("backend myapp  ", changes))
    with Client(address, source=STRANGER) as client:
        own = client.socket.getsockname()
        seen = json.loads(client.get(**LIE).body)
    checked = daemon.metric("asgid_connections_accepted_total")
    eventually(lambda: daemon.metric("asgid_connections_accepted_total") >= checked + 5)

    assert (list(own), "http") == (seen["client"], seen["scheme"])
    assert daemon.log_events("connection refused for its PROXY header", "request refused") == []
    assert daemon.metric("asgid_http_protocol_errors_total") == 0
