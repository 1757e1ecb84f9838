"""Drains a worker: it leaves without losing a request.

(1) Accept the connections that the kernel had completed, and close the listening sockets. (2) Respond to requests on
idle connections for a moment, with `Connection: close`; then close these connections. (3) Close the WebSockets with
1012. Not earlier: a browser would ask this worker, on its idle connections, for everything that its new WebSocket
needs. (4) Wait for the running requests, and for work that applications do after their response. (5) At the end of the
grace notify the applications, then cancel them. This file does not decide when a worker leaves.
"""

import asyncio
from itertools import islice
from math import inf
from time import monotonic

from asgid import wire
from asgid.worker.http.context import WorkerContext
from asgid.worker.net.acceptor import Acceptor

#: How long cancelled applications have to return.
_CANCELLED_S = 0.5
#: Of timeouts.kill; the shutdown of the lifespan has twice as much, the other steps at the end as much.
_CANCELLED_SHARE = 0.125
#: WebSockets that are closed in one go, and the pause after them. Ten thousand clients that reconnect at the same
#: moment would overload the other workers, so their closes are spread over a second.
_CLOSED_AT_ONCE, _PAUSE_S = 100, 0.01
_MAX_NAMED = 20  # requests in the log line


class Drain:
    """One worker's drain. A second order may come while it runs: a stop that overtakes a reload lingers less."""

    def __init__(self, context: WorkerContext, acceptor: Acceptor) -> None:
        self._context, self._connections, self._acceptor = context, context.connections, acceptor
        self._is_empty = asyncio.Event()
        self._linger: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None  # closes the WebSockets
        self.deadline = 0.0  #: when the grace ends, time.monotonic()

    def order(self, order: wire.Drain) -> None:
        """Take the linger of this order; the grace runs from the first order."""
        self.deadline = self.deadline or monotonic() + order.grace_s
        if self._linger:
            self._linger.cancel()
        loop, turns = self._context.loop, self._connections.turns
        # After a block of the loop a request on an idle connection may have arrived within the linger.
        self._linger = loop.call_later(order.linger_s, turns.after_reading, self._close_idle)

    async def run(self) -> None:
        """Return when the worker has no connection and no running request."""
        connections = self._connections
        connections.is_draining = True
        connections.limit.stop()
        self._acceptor.pause()
        try:
            async with asyncio.timeout(self.deadline - monotonic()):
                await self._acceptor.stop()
                # Not earlier: while the queue is emptied, the last connection is not known.
                connections.on_closed = self._check_empty
                self._check_empty()
                await self._is_empty.wait()
        except TimeoutError:
            connections.on_closed = self._check_empty
            await self._cancel()
        if self._closing:
            self._closing.cancel()

    async def _close_websockets(self) -> None:
        for number, websocket in enumerate(list(self._connections.websockets), 1):
            websocket.go_away()
            if number % _CLOSED_AT_ONCE == 0:
                await asyncio.sleep(_PAUSE_S)

    def _start_closing_websockets(self) -> None:
        if self._closing is None:
            self._closing = self._context.loop.create_task(self._close_websockets())

    def _check_empty(self) -> None:
        connections = self._connections
        if not connections.open:
            if not self._context.running:
                self._is_empty.set()
        elif len(connections.open) == len(connections.websockets):  # no other connection is to be closed before them
            self._start_closing_websockets()

    def _close_idle(self) -> None:
        for client in list(self._connections.open):
            client.close_if_idle()
        self._start_closing_websockets()
        running, left_s = self._context.running, round(self.deadline - monotonic(), 1)
        if running and left_s > 0:
            requests = ", ".join(f"{exchange.method} {exchange.path}" for exchange in islice(running, _MAX_NAMED))
            self._context.log.info("waiting for requests", count=len(running), requests=requests, left_s=left_s)

    async def _cancel(self) -> None:
        context, connections = self._context, self._connections
        if context.request_limit is not None:
            for queued in context.request_limit.pop_expired(inf):  # first: a request that ends would start one of them
                queued.reject_overload(monotonic())
        for exchange in list(context.running):
            exchange.on_peer_eof()
        for websocket in list(connections.websockets):  # those that are not closed yet
            websocket.go_away()
        await asyncio.sleep(0)  # an application that waits for the disconnect ends by itself
        for exchange in list(context.running):
            exchange.cancel(503, "the server is stopping")
        try:
            async with asyncio.timeout(min(_CANCELLED_S, context.timeouts.kill * _CANCELLED_SHARE)):
                await self._is_empty.wait()
        except TimeoutError:
            if context.running:
                context.log.warning("applications did not end when cancelled", requests=len(context.running))
        for client in list(connections.open):
            client.abort()
