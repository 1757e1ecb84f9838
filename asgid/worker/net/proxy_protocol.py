"""asyncio.Protocol in front of another one: reads the PROXY header, and passes the transport on with its addresses.

Until the header is complete it counts, has a deadline and ends like the connection that follows. Only a trusted peer
may send the header, and it must. Otherwise the connection closes without a response, because nothing shows that the
peer uses HTTP.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Protocol, cast

from asgid.board import TIMEOUT_CELL
from asgid.errors import ClientError
from asgid.worker.net import addresses, proxy_header
from asgid.worker.net.addresses import Addresses
from asgid.worker.net.proxy_header import ProxyHeader
from asgid.worker.net.registry import Client, Connections


class Successor(Client, Protocol):
    """The protocol that serves the connection after the header."""

    def attach(self, transport: asyncio.BaseTransport, known: Addresses, head_by: float) -> None:
        """Serve `transport` between `known` addresses; the deadline of the first head is `head_by`."""

    def data_received(self, data: bytes) -> None:
        """Take the bytes that were received after the header."""


class Trusted(Protocol):
    """The peers that may send a header, by the names of `addresses.peer_name`."""

    def __contains__(self, peer: str, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class ProxyPolicy:
    """The rules of one listener."""

    versions: str  #: "v1", "v2" or "any"
    trusted: Trusted
    head_timeout: float  #: seconds from the connection to the first request head, the PROXY header included
    on_rejected: Callable[[ClientError, str], None]  #: called with the fault and the peer


class ProxyProtocol(asyncio.Protocol):
    """One connection, until its PROXY header is complete."""

    __slots__ = ("_addresses", "_connections", "_make_successor", "_policy", "_received", "deadline", "transport")

    def __init__(self, connections: Connections, policy: ProxyPolicy, make_successor: Callable[[], Successor]) -> None:
        self._connections, self._policy, self._make_successor = connections, policy, make_successor
        self.transport: asyncio.Transport
        self._received = b""
        self.deadline = inf

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # the base class is wider than a server's transports
        self._addresses = addresses.from_transport(transport)
        self.deadline = monotonic() + self._policy.head_timeout
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.deadline = inf
        self._connections.closed(self)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        # A connection without bytes is not a fault: it may be a health check. Neither is one that has sent its header
        # and an RST before it was accepted, as HAProxy does: without an address it cannot be trusted.
        if not self._peer:
            self.abort()
            return
        self._received += data
        try:
            header = self._parse()
        except ClientError as error:
            self._reject(error)
        else:
            if header:
                self._pass_on(header)

    def eof_received(self) -> None:
        if self._received:
            self._reject(ClientError(400, "proxy", "the connection ended within its PROXY header"))

    # The header

    def _parse(self) -> ProxyHeader | None:
        if self._peer not in self._policy.trusted:
            raise ClientError(400, "proxy", "the peer is not in proxy.trusted")
        return proxy_header.parse_header(self._received, self._policy.versions)

    @property
    def _peer(self) -> str:
        return addresses.peer_name(self._addresses, self.transport)

    def _pass_on(self, header: ProxyHeader) -> None:
        """Pass the transport on; our deadline stays that of the first request head."""
        successor = self._make_successor()
        self._connections.replace(self, successor)
        self.transport.set_protocol(cast("asyncio.Protocol", successor))
        client, server, _ = self._addresses
        known = Addresses(header.client or client, header.server or server, "https" if header.is_tls else "http")
        successor.attach(self.transport, known, self.deadline)
        if rest := self._received[header.size :]:
            successor.data_received(rest)

    def _reject(self, error: ClientError) -> None:
        self._policy.on_rejected(error, self._peer)
        self.abort()

    # registry.Client

    def on_deadline(self) -> None:
        self.deadline = inf
        self._connections.row[TIMEOUT_CELL["header"]] += 1
        self.abort()

    def on_peer_closed(self, is_reset: bool) -> None:
        """Nothing: reading is never paused."""

    def close_if_idle(self) -> None:
        if not self._received:
            self.abort()

    def abort(self) -> None:
        self.transport.abort()

    def requests(self) -> tuple[str, ...]:
        return ()
