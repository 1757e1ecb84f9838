"""asyncio.Protocol in front of a connection: reads the PROXY header and passes the transport on, with who it tells of.

It counts, has its deadline and ends like the connection that it becomes. Only a peer that is trusted may send the
header, and must; whoever does not is closed without an answer, for what it speaks is not known to be HTTP.
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
    """One connection, until its PROXY header is whole."""

    __slots__ = ("_ends", "_listener", "_received", "_service", "_transport", "_versions", "deadline")

    exchange = None  # there is none before the header

    def __init__(self, service: Service, listener: str, versions: str) -> None:
        self._service, self._listener, self._versions = service, listener, versions
        self._received = b""
        self.deadline = inf

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # the base class is wider than what a server is given
        self._ends = addresses.from_transport(transport)
        self.deadline = monotonic() + self._service.timeouts.header
        self._service.entered(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature; lost is lost
        self.deadline = inf
        self._service.left(self)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        # Who connects and says nothing is no error, trusted or not: a health check. Nor is one that sent its header and
        # an RST, as HAProxy's do, before it was accepted: it has no address any more by which it could be trusted.
        if not self._peer:
            self.abort()
            return
        self._received += data
        try:
            header = self._read()
        except ClientError as error:
            self._refuse(error)
        else:
            if header:
                self._pass_on(header)

    def eof_received(self) -> None:
        if self._received:
            self._refuse(ClientError(400, "proxy", "the connection ended within its PROXY header"))

    # The header

    def _read(self) -> ProxyHeader | None:
        if self._peer not in self._service.trust:
            raise ClientError(400, "proxy", "the peer is not in proxy.trusted")
        return proxy_header.parse_header(self._received, self._versions)

    @property
    def _peer(self) -> str:
        return addresses.peer_name(self._ends, self._transport)

    def _pass_on(self, header: ProxyHeader) -> None:
        """Become a connection; its first request head still has to be here by our deadline."""
        connection = Connection(self._service)
        self._service.connections.remove(self)
        self._service.connections.add(connection)
        self._transport.set_protocol(connection)
        client, server, _ = self._ends
        told = Addresses(header.client or client, header.server or server, "https" if header.is_tls else "http")
        connection.begin_on(self._transport, told, self.deadline)
        if rest := self._received[header.size :]:
            connection.data_received(rest)

    def _refuse(self, error: ClientError) -> None:
        self._service.refusals.log_proxy_header(error, self._listener, self._peer)
        self.abort()

    # What a service asks of whoever holds a connection

    def overdue(self) -> None:
        self.deadline = inf
        self._service.row[TIMEOUT_CELL["header"]] += 1
        self.abort()

    def close_if_idle(self) -> None:
        if not self._received:
            self.abort()

    def abort(self) -> None:
        self._transport.abort()
