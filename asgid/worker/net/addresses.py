"""Who is at the two ends of a transport, as an application is told and as `proxy.trusted` calls the peer."""

import asyncio
import os
import socket
from typing import NamedTuple

from asgid.worker.http.forwarded import UNIX
from asgid.worker.http.scope import Address


class Addresses(NamedTuple):
    """What the scopes of one connection say of it."""

    client: tuple[str, int] | None
    server: Address
    scheme: str = "http"


def from_transport(transport: asyncio.BaseTransport) -> Addresses:
    """Return what the kernel says."""
    return Addresses(
        _host_and_port(transport.get_extra_info("peername")), _address(transport.get_extra_info("sockname"))
    )


def format_client(client: tuple[str, int] | None) -> str | None:
    """Return a client as logs name it; None where nobody knows."""
    if client is None:
        return None
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def peer_name(ends: Addresses, transport: asyncio.BaseTransport) -> str:
    """Return the client as `proxy.trusted` writes it: an address, UNIX, or "" where nobody knows.

    Whoever resets a TCP connection before it is accepted has no address any more, and its request is read all the same:
    without a look at the kind of the socket it would pass for a peer on a unix socket, which has none either.
    """
    if ends.client:
        return ends.client[0]
    sock = transport.get_extra_info("socket")
    return UNIX if sock is not None and sock.family == socket.AF_UNIX else ""


def _address(name: object) -> Address:
    """Return what a socket is bound to; on a unix socket a path, of which an abstract one begins with a NUL."""
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    return (name, None) if isinstance(name, str) and name else _host_and_port(name)


def _host_and_port(name: object) -> tuple[str, int] | None:
    """Return who is at an end: who comes by a unix socket is nobody, whatever the client's end is bound to.

    On a socket that takes both families, such as that of `:8000`, the kernel calls 192.0.2.1 `::ffff:192.0.2.1`. Such a
    client has the same name as on any other socket, and as a proxy calls it.
    """
    if not isinstance(name, tuple):
        return None
    host = str(name[0])
    return (host.removeprefix("::ffff:") if "." in host else host), int(name[1])
