"""The worker's clock: heartbeat, Date and Server lines, overdue connections, slow requests, the lag of the loop.

The heartbeat comes from the loop that is judged by it, so a loop that stands still cannot seem alive. No client pays
for such a loop: after it every deadline is moved, and none is judged before the worker has read what has arrived.
"""

import asyncio  # noqa: TC003 - it is loaded anyway; hiding it gains nothing
import select
from functools import partial
from time import monotonic, monotonic_ns, time

from asgid.board import HEARTBEAT_NS, LAG_NS, QUEUED, SLOW, TIMEOUT_CELL
from asgid.config import Config
from asgid.date import http_date
from asgid.worker.http.context import Service

#: A beat that comes so late follows a loop that stood still (or SIGSTOP), and its lateness counts against no client.
#: Shorter ones do count: a deadline is up to a second late in any case, and a loop that is always a little late would
#: give a client that sends its head byte by byte, on purpose, more and more time for it. This way a client has at most
#: one second and the lateness of a beat where it should have one second.
STALL_S = 1.0


#: A deadline is up to one beat late, and so up to half of the shortest one. No beat is shorter than this for that.
_MIN_INTERVAL_S = 0.05


def interval_s(config: Config) -> float:
    """Return the time from one beat to the next.

    The master may judge a heartbeat after a third of its limit. Ten thousand deadlines take 0.4 ms to look at.
    """
    timeouts, websocket = config.timeouts, config.websocket
    shortest = min(
        *(timeouts.header, timeouts.body, timeouts.write, timeouts.keep_alive, timeouts.request),
        *(config.limits.queue_timeout, websocket.ping_interval, websocket.ping_timeout),
    )
    return min(1.0, timeouts.heartbeat / 3, timeouts.blocked / 3, max(shortest / 2, _MIN_INTERVAL_S))


class Pulse:
    """Beats until it is stopped."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._interval = interval_s(service.config)
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        self._due = monotonic()
        self._beat()

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _beat(self) -> None:
        service, now = self._service, monotonic()
        service.row[HEARTBEAT_NS] = monotonic_ns()
        late = now - self._due
        service.row[LAG_NS] = max(0, int(late * 1e9))
        # First of all: what follows touches what is the application's, and a beat that fails must not be the last one.
        self._due = now + self._interval
        self._timer = service.loop.call_later(self._interval, self._beat)
        service.admission.second_passed()
        service.common_lines = _common_lines(service)
        if late >= STALL_S:
            service.stood_still(late)
        # By the time of this beat: in the turn that reads a handler may hold the loop again.
        service.turns.after_reading(partial(self._judge, now))

    def _judge(self, now: float) -> None:
        """End what was overdue at `now`, and still is after what has arrived was read."""
        service = self._service
        # Closing one takes it out of the set: look at a copy.
        for connection in [one for one in service.connections if one.deadline <= now]:
            connection.overdue()
        if service.places is not None:
            for exchange in service.places.overdue(now):
                service.row[TIMEOUT_CELL["queue"]] += 1
                exchange.refuse(now)
            service.row[QUEUED] = len(service.places)
        if service.unread:
            self._look_for_departed()
        self._look_for_slow_requests(now)

    def _look_for_departed(self) -> None:
        """Where reading is paused nobody tells us that the client has left, and a long poll would wait for ever."""
        unread = {
            one.transport.get_extra_info("socket").fileno(): one
            for one in self._service.unread
            if not one.transport.is_closing()
        }
        ends = select.poll()
        for descriptor in unread:
            ends.register(descriptor, select.POLLRDHUP)
        for descriptor, event in ends.poll(0):
            unread[descriptor].client_left(bool(event & (select.POLLHUP | select.POLLERR)))

    def _look_for_slow_requests(self, now: float) -> None:
        limit = self._service.timeouts.slow_request
        for exchange in list(self._service.running):
            if now - exchange.begun > limit and not exchange.is_slow_logged and exchange.is_unanswered:
                exchange.is_slow_logged = True
                self._service.row[SLOW] += 1
                self._service.log.warning(
                    "slow request",
                    method=exchange.method,
                    path=exchange.path,
                    age_s=round(now - exchange.begun, 1),
                    stack=exchange.stack(),
                )


def _common_lines(service: Service) -> bytes:
    settings = service.config.http
    date = f"date: {http_date(time())}\r\n" if settings.date_header else ""
    server = f"server: {settings.server_header}\r\n" if settings.server_header else ""
    return (date + server).encode("latin-1")
