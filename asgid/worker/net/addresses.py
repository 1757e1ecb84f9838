"""Client and server address of a transport, for scopes and logs, and the name of its peer in `proxy.trusted`."""

import asyncio
import os
import socket
from typing import NamedTuple

from asgid.worker.net.peers import UNIX, Address


class Addresses(NamedTuple):
    """Client, server and scheme in the scopes of one connection."""

    client: tuple[str, int] | None
    server: Address
    scheme: str = "http"


def from_transport(transport: asyncio.BaseTransport) -> Addresses:
    """Return the addresses that the kernel reports."""
    return Addresses(
        _host_and_port(transport.get_extra_info("peername")), _address(transport.get_extra_info("sockname"))
    )


def format_client(client: tuple[str, int] | None) -> str | None:
    """Return a client in the format of logs; None if it is not known."""
    if client is None:
        return None
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def peer_name(known: Addresses, transport: asyncio.BaseTransport) -> str:
    """Return the client in the format of `proxy.trusted`: an address, UNIX, or "" if it is not known.

    A client that resets its TCP connection before the accept has no address any more, but its request is still read.
    The family of the socket distinguishes it from a peer on a unix socket, which has no address either.
    """
    if known.client:
        return known.client[0]
    sock = transport.get_extra_info("socket")
    return UNIX if sock is not None and sock.family == socket.AF_UNIX else ""


def _address(name: object) -> Address:
    """Return the address that a socket is bound to; for a unix socket a path, which begins with NUL if abstract."""
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    return (name, None) if isinstance(name, str) and name else _host_and_port(name)


def _host_and_port(name: object) -> tuple[str, int] | None:
    """Return host and port; None for a unix socket, also if the client has bound its end.

    On a dual-stack socket, such as that of `:8000`, the kernel reports 192.0.2.1 as `::ffff:192.0.2.1`. It becomes
    192.0.2.1 again: the client has the same address on each socket, and in the headers of a proxy.
    """
    if not isinstance(name, tuple):
        return None
    host, port = name[:2]  # IPv6 has two more
    return (host.removeprefix("::ffff:") if "." in host else host), port
