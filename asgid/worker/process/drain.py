"""Leaving without losing anything: the order in which a worker lets go.

(1) Accept what the kernel had completed, and let go of the sockets. (2) Answer what comes on idle connections for a
moment, with `Connection: close`; then close them. (3) Close the WebSockets with 1012: not before, for a browser would
ask this worker, on its idle connections, for what its new WebSocket needs. (4) Wait for the requests in hand, and for
work that applications do after their response. (5) At the end of the grace tell the applications, then cancel them.
Nothing here decides when to leave.
"""

import asyncio
from itertools import islice
from math import inf
from time import monotonic

from asgid import wire
from asgid.worker.http.context import Service
from asgid.worker.net.acceptor import Doors

#: How long applications that were cancelled have to return.
_CANCELLED_S = 0.5
#: Of timeouts.kill; the shutdown of the lifespan may take twice as much, the rest of the end as much.
_CANCELLED_SHARE = 0.125
#: WebSockets that are closed in one go, and the pause after them: ten thousand clients that come back in one moment
#: would find nobody ready; so they come over a second.
_CLOSED_AT_ONCE, _PAUSE_S = 100, 0.01
_NAMED = 20  # of the requests that a drain waits for


class Drain:
    """One worker's drain. It may be told again while it runs: a stop that overtakes a reload is less patient."""

    def __init__(self, service: Service, doors: Doors) -> None:
        self._service, self._doors = service, doors
        self._emptied = asyncio.Event()
        self._linger: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None  # closes the WebSockets
        self.deadline = 0.0  #: when the grace ends, time.monotonic()

    def tell(self, order: wire.Drain) -> None:
        """Take the order's linger from now on; the grace runs from the first order."""
        self.deadline = self.deadline or monotonic() + order.grace_s
        if self._linger:
            self._linger.cancel()
        loop, turns = self._service.loop, self._service.turns
        # After a stall of the loop a request on an idle connection may have arrived within the linger.
        self._linger = loop.call_later(order.linger_s, turns.after_reading, self._close_idle)

    async def run(self) -> None:
        """Return when nothing is left in hand."""
        service = self._service
        service.is_draining = service.admission.is_closed = True
        self._doors.close()
        try:
            async with asyncio.timeout(self.deadline - monotonic()):
                await self._doors.leave()
                service.on_left = self._on_left  # not before: who goes while the queue is emptied is not the last
                self._on_left()
                await self._emptied.wait()
        except TimeoutError:
            service.on_left = self._on_left
            await self._cancel()
        if self._closing:
            self._closing.cancel()

    async def _close_websockets(self) -> None:
        for number, websocket in enumerate(list(self._service.websockets), 1):
            websocket.go_away()
            if number % _CLOSED_AT_ONCE == 0:
                await asyncio.sleep(_PAUSE_S)

    def _begin_to_close_websockets(self) -> None:
        if self._closing is None:
            self._closing = self._service.loop.create_task(self._close_websockets())

    def _on_left(self) -> None:
        service = self._service
        if not service.connections:
            if not service.running:
                self._emptied.set()
        elif len(service.connections) == len(service.websockets):  # there is nothing to move before them
            self._begin_to_close_websockets()

    def _close_idle(self) -> None:
        for connection in list(self._service.connections):
            connection.close_if_idle()
        self._begin_to_close_websockets()
        running, left_s = self._service.running, round(self.deadline - monotonic(), 1)
        if running and left_s > 0:
            requests = ", ".join(f"{exchange.method} {exchange.path}" for exchange in islice(running, _NAMED))
            self._service.log.info("waiting for requests", count=len(running), requests=requests, left_s=left_s)

    async def _cancel(self) -> None:
        service = self._service
        if service.places is not None:
            for waiting in service.places.overdue(inf):  # before others leave, or these would begin in their places
                waiting.refuse(monotonic())
        for connection in list(service.connections):
            if connection.exchange:
                connection.exchange.hang_up()
        for websocket in list(service.websockets):  # those that have not been told
            websocket.go_away()
        await asyncio.sleep(0)  # who waits for the disconnect ends by itself
        for exchange in list(service.running):
            exchange.cancel(503, "the server is stopping")
        try:
            async with asyncio.timeout(min(_CANCELLED_S, service.timeouts.kill * _CANCELLED_SHARE)):
                await self._emptied.wait()
        except TimeoutError:
            if service.running:
                service.log.warning("applications did not end when cancelled", requests=len(service.running))
        for connection in list(service.connections):
            connection.abort()
