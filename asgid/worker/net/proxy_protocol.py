"""asyncio.Protocol that reads a PROXY header, and then gives the transport to a Connection with the header's addresses.

It is counted, and has a deadline, as the Connection that follows. A peer must be trusted and must send the header. Any
other peer is closed without a response, because its bytes may not be HTTP.
"""

import asyncio
from math import inf
from time import monotonic
from typing import cast

from asgid.board import TIMEOUT_CELL
from asgid.errors import ClientError
from asgid.worker.http.context import Service
from asgid.worker.http1.connection import Connection
from asgid.worker.net import addresses, proxy_header
from asgid.worker.net.addresses import Addresses
from asgid.worker.net.proxy_header import ProxyHeader


class ProxyProtocol(asyncio.Protocol):
    """One connection, until its PROXY header is complete."""

    __slots__ = ("_known", "_listener", "_received", "_service", "_transport", "_versions", "deadline")

    exchange = None  # no request before the header

    def __init__(self, service: Service, listener: str, versions: str) -> None:
        self._service, self._listener, self._versions = service, listener, versions
        self._received = b""
        self.deadline = inf

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # the base class is wider than what a server is given
        self._known = addresses.from_transport(transport)
        self.deadline = monotonic() + self._service.timeouts.header
        self._service.entered(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.deadline = inf
        self._service.left(self)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        # A peer without an address is not an error: a health check of HAProxy sends its header and then an RST, and the
        # kernel does not know its address any more.
        if not self._peer:
            self.abort()
            return
        self._received += data
        try:
            header = self._read()
        except ClientError as error:
            self._reject(error)
        else:
            if header:
                self._become_connection(header)

    def eof_received(self) -> None:
        if self._received:  # else a health check, from any peer
            self._reject(ClientError(400, "proxy", "the connection ended within its PROXY header"))

    # The header

    def _read(self) -> ProxyHeader | None:
        if self._peer not in self._service.trust:
            raise ClientError(400, "proxy", "the peer is not in proxy.trusted")
        return proxy_header.parse_header(self._received, self._versions)

    @property
    def _peer(self) -> str:
        return addresses.peer_name(self._known, self._transport)

    def _become_connection(self, header: ProxyHeader) -> None:
        """Give the transport to a Connection; the deadline stays, for its first request head."""
        connection = Connection(self._service)
        self._service.connections.remove(self)
        self._service.connections.add(connection)
        self._transport.set_protocol(connection)
        client, server, _ = self._known
        known = Addresses(header.client or client, header.server or server, "https" if header.is_tls else "http")
        connection.begin_on(self._transport, known, self.deadline)
        if rest := self._received[header.size :]:
            connection.data_received(rest)

    def _reject(self, error: ClientError) -> None:
        self._service.refusals.log_proxy_header(error, self._listener, self._peer)
        self.abort()

    # As any member of Service.connections

    def overdue(self) -> None:
        self.deadline = inf
        self._service.row[TIMEOUT_CELL["header"]] += 1
        self.abort()

    def close_if_idle(self) -> None:
        if not self._received:
            self.abort()

    def abort(self) -> None:
        self._transport.abort()
