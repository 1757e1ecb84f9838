"""The parts of one worker: built for tests, questioned and ordered by them.

Beside client.py only this module reads private attributes of the worker's objects.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from asgid import board, config
from asgid.worker.app.lifespan import Lifespan
from asgid.worker.asgi import Application
from asgid.worker.http.access_log import AccessLog
from asgid.worker.http.context import WorkerContext
from asgid.worker.http.exchange import Exchange
from asgid.worker.http1.connection import Connection
from asgid.worker.net.acceptor import Acceptor
from asgid.worker.net.connection_limit import ConnectionLimit
from asgid.worker.net.registry import Connections
from asgid.worker.websocket.protocol import CLOSING, PINGED, WebSocketProtocol
from asgid.worker.websocket.session import start_session
from tests.worker.recorder import Recorder

if TYPE_CHECKING:
    from asgid.log import Log


class NoListeners(Acceptor):
    """An acceptor without a listening socket; `paused` counts its pauses, less its resumptions."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Recorder, row: board.Row) -> None:
        super().__init__(loop, [], cast("Log", log), row)
        self.paused = 0

    def pause(self) -> None:
        self.paused += 1

    def resume(self) -> None:
        self.paused -= 1


def build_context(
    app: Application,
    settings: config.Config,
    row: board.Row,
    log: Recorder,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    access: AccessLog | None = None,
    acceptor: Acceptor | None = None,
    max_connections: int = 1 << 30,
    serves_websockets: bool = True,
) -> WorkerContext:
    """Return the context of one worker, with its connections."""
    loop = loop or asyncio.get_running_loop()
    connections = Connections(
        loop,
        row,
        ConnectionLimit(max_connections),
        acceptor or NoListeners(loop, log, row),
        write_timeout=settings.timeouts.write,
    )
    return WorkerContext(
        app=app,
        config=settings,
        row=row,
        log=cast("Log", log),
        access=access,
        connections=connections,
        start_session=start_session if serves_websockets else None,
    )


class ActsOnCall(set[Exchange]):
    """A set of running exchanges that calls `act` with each new one."""

    def __init__(self, act: Callable[[Exchange], object]) -> None:
        super().__init__()
        self._act = act

    def add(self, exchange: Exchange) -> None:
        super().add(exchange)
        self._act(exchange)


# Orders


def drain_now(context: WorkerContext) -> None:
    """Close all idle connections, and each WebSocket, as a drain does."""
    connections = context.connections
    connections.is_draining = True
    for client in list(connections.open):
        client.close_if_idle()
    for websocket in list(connections.websockets):
        websocket.go_away()


def cancel_all(context: WorkerContext, status: int, text: str = "") -> None:
    """Cancel each application that runs."""
    for exchange in list(context.running):
        exchange.cancel(status, text)


def reach_deadline(connection: Connection | WebSocketProtocol) -> None:
    """Act as the ticker does when the deadline of `connection` has passed."""
    connection.on_deadline()


def leave(connection: Connection | WebSocketProtocol, *, is_reset: bool) -> None:
    """Report to a paused connection that its client has gone."""
    connection.on_peer_closed(is_reset)


# Questions


def still_open(context: WorkerContext) -> dict[str, int]:
    """Return how many things of each kind a worker holds; all are 0 after the last client has gone."""
    connections = context.connections
    return {
        "connections": len(connections.open),
        "running applications": len(context.running),
        "counted connections": connections.limit.open,
        "WebSockets": len(connections.websockets),
        "paused connections": len(connections.paused),
    }


def paused(context: WorkerContext) -> set[Any]:
    """Return the connections that the worker does not read from now."""
    return cast("set[Any]", context.connections.paused)


def listening_servers(acceptor: Acceptor) -> list[asyncio.Server]:
    """Return the servers that accept connections now."""
    return acceptor._servers


def pending_retry(acceptor: Acceptor) -> asyncio.TimerHandle | None:
    """Return the timer after which the acceptor tries to accept again."""
    return acceptor._timer


def is_starting(acceptor: Acceptor) -> bool:
    """Return whether the acceptor was asked to accept and has not begun."""
    return acceptor._starting is not None


def watches_listeners(acceptor: Acceptor) -> bool:
    """Return whether the acceptor only watches its listeners, after it yielded to its siblings."""
    return acceptor._is_watching


def lifespan_task(lifespan: Lifespan) -> asyncio.Task[Any]:
    assert lifespan._task is not None
    return lifespan._task


def has_unread_frames(websocket: WebSocketProtocol) -> bool:
    """Return whether bytes that have arrived are not decoded yet."""
    return websocket._decoder.has_rest


def waits_for_pong(websocket: WebSocketProtocol) -> bool:
    """Return whether a ping was sent and nothing has arrived since."""
    return websocket._phase is PINGED


def is_open(websocket: WebSocketProtocol) -> bool:
    """Return whether neither side has sent a close frame."""
    return websocket._phase < CLOSING
