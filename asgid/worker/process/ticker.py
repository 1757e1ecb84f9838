"""The worker's clock: heartbeat, Date and Server lines, deadlines, slow requests, the lag of the event loop.

The heartbeat comes from the loop that is checked by it, so a blocked loop cannot look alive. Clients do not pay for a
blocked loop: every deadline moves by the time of the block, and is checked after the loop has read all received bytes.
"""

import asyncio  # noqa: TC003 - imported anyway
import select
from functools import partial
from time import monotonic, monotonic_ns, time

from asgid.board import HEARTBEAT_NS, LAG_NS, QUEUED, SLOW, TIMEOUT_CELL
from asgid.config import Config
from asgid.config.tables import Http
from asgid.date import http_date
from asgid.worker.http.context import WorkerContext
from asgid.worker.net.registry import Client

#: If a tick is later than this, the loop was blocked or the process stopped, and no deadline counts that time. Shorter
#: delays do count: a deadline is up to a second late in any case, and a loop that is always a little late would give a
#: client that sends its head byte by byte, on purpose, more and more time for it. This way a client has at most one
#: second and the delay of one tick in place of one second.
STALL_S = 1.0
#: How many slow requests of one tick are logged with a stack, which takes 0.2 to 0.5 ms; the others are counted.
_MAX_STACKS = 10
#: A deadline is up to one tick late, and so up to half of the shortest deadline. No tick is shorter than this.
_MIN_INTERVAL_S = 0.05


def interval_s(config: Config) -> float:
    """Return the seconds from one tick to the next.

    The master may check a heartbeat after a third of its limit. Ten thousand deadlines take 0.4 ms to check.
    """
    timeouts, websocket = config.timeouts, config.websocket
    shortest = min(
        *(timeouts.header, timeouts.body, timeouts.write, timeouts.keep_alive, timeouts.request),
        *(config.limits.queue_timeout, websocket.ping_interval, websocket.ping_timeout),
    )
    return min(1.0, timeouts.heartbeat / 3, timeouts.blocked / 3, max(shortest / 2, _MIN_INTERVAL_S))


class Ticker:
    """Ticks until it is stopped."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._interval = interval_s(context.config)
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        self._due = monotonic()
        self._tick()

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _tick(self) -> None:
        context, now = self._context, monotonic()
        context.row[HEARTBEAT_NS] = monotonic_ns()
        delay = now - self._due
        context.row[LAG_NS] = max(0, int(delay * 1e9))
        # First of all: the rest touches objects of the application, and a tick that fails must not be the last one.
        self._due = now + self._interval
        self._timer = context.loop.call_later(self._interval, self._tick)
        context.connections.limit.decay()
        context.common_lines = _common_lines(context.config.http)
        if delay >= STALL_S:
            context.extend_deadlines(delay)
        # By the time of this tick: in the turn that reads, a handler may block the loop again.
        context.connections.turns.after_reading(partial(self._check_deadlines, now))

    def _check_deadlines(self, now: float) -> None:
        """End the waits that were over at `now`, and still are after the loop has read all received bytes."""
        context = self._context
        # A client that closes leaves the set: iterate over a copy.
        self._end_overdue(now, [each for each in context.connections.open if each.deadline <= now])
        limit = context.request_limit
        if limit is not None:
            for exchange in limit.pop_expired(now):
                context.row[TIMEOUT_CELL["queue"]] += 1
                exchange.reject_overload(now)
            context.row[QUEUED] = len(limit)
        if context.connections.paused:
            self._poll_paused()
        self._log_slow_requests(now)

    def _end_overdue(self, now: float, clients: list[Client]) -> None:
        """End the waits of `clients`, as many as a turn of the loop has time for; the others in later turns."""
        turns = self._context.connections.turns
        while clients:
            client = clients.pop()
            if client.deadline <= now:  # it may have moved since
                client.on_deadline()
            if clients and turns.is_spent(monotonic()):
                turns.later(partial(self._end_overdue, now, clients))
                return

    def _poll_paused(self) -> None:
        """Find clients that have left while reading is paused: no event reports them, and a long poll would go on."""
        paused = {
            client.transport.get_extra_info("socket").fileno(): client
            for client in self._context.connections.paused
            if not client.transport.is_closing()
        }
        poll = select.poll()
        for descriptor in paused:
            poll.register(descriptor, select.POLLRDHUP)
        for descriptor, event in poll.poll(0):
            paused[descriptor].on_peer_closed(bool(event & (select.POLLHUP | select.POLLERR)))

    def _log_slow_requests(self, now: float) -> None:
        context = self._context
        limit = context.timeouts.slow_request
        slow = [
            exchange
            for exchange in context.running
            if now - exchange.begun > limit and not exchange.is_slow_logged and exchange.is_unanswered
        ]
        context.row[SLOW] += len(slow)
        for exchange in slow:
            exchange.is_slow_logged = True
        for exchange in slow[:_MAX_STACKS]:
            context.log.warning(
                "slow request",
                method=exchange.method,
                path=exchange.path,
                age_s=round(now - exchange.begun, 1),
                stack=exchange.stack(),
            )
        if len(slow) > _MAX_STACKS:
            context.log.warning("more slow requests", count=len(slow) - _MAX_STACKS)


def _common_lines(settings: Http) -> bytes:
    date = f"date: {http_date(time())}\r\n" if settings.date_header else ""
    server = f"server: {settings.server_header}\r\n" if settings.server_header else ""
    return (date + server).encode("latin-1")
