"""A client of a unix socket cannot pass descriptors to a worker (SCM_RIGHTS, unix(7))."""

import array
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.client import Client
from tests.conftest import Start

SO_PASSRIGHTS = 83


def _may_refuse() -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
        except OSError:
            return False
    return True


needs_passrights = pytest.mark.skipif(not _may_refuse(), reason="Linux has SO_PASSRIGHTS from 6.16 on")


@pytest.fixture
def lingering() -> Iterator[socket.socket]:
    """Return a socket whose close waits 20 s: its peer does not read the bytes that it has not sent yet."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        stack.enter_context(listener.accept()[0])
        client.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                client.send(bytes(65536))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 20))
        yield client
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def ask(sock: socket.socket) -> bytes:
    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return sock.recv(1000)


@needs_passrights
@pytest.mark.parametrize("reload", [False, True])
def test_a_client_cannot_pass_a_descriptor_to_a_worker(start: Start, tmp_path: Path, lingering, reload) -> None:
    """The worker would close it, and the close of this socket waits (SO_LINGER): so would all other clients."""
    path = tmp_path / "http.sock"
    daemon = start(listen=[{"bind": f"unix:{path}"}], workers={"count": 1}, timeouts={"blocked": "20s"})
    if reload:
        assert daemon.reload()["event"] == "reload committed"
    descriptors = array.array("i", [lingering.fileno()])
    with Client(f"unix:{path}").socket as attacker, Client(f"unix:{path}").socket as other:
        with pytest.raises(PermissionError):
            attacker.sendmsg([b"G"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])

        assert ask(other).startswith(b"HTTP/1.1 200 ")
        assert ask(attacker).startswith(b"HTTP/1.1 200 ")
    assert daemon.stop() == 0
