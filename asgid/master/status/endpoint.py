"""The metrics address in the master's own loop, so that its pages answer while every worker is stuck.

A client has ten seconds from accept to close. If too many are open, the oldest idle one is closed. Each connection
carries one request. This file does not know the pages.
"""

import errno
import socket
import time
from collections.abc import Callable
from selectors import EVENT_READ, BaseSelector

from asgid import descriptors
from asgid.log import Log
from asgid.master.net.clients import Client

DEADLINE_S = 10.0  #: from accept to the end
MAX_CLIENTS = 64
_PAUSE_S = 1.0  # while no descriptor is free: the socket stays readable, and would keep the loop busy
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Endpoint:
    """Accepts clients on `listening`, a bound socket of the caller, in the loop of `selector`.

    Each registration has a callable as its data; the loop calls it with the ready mask, and `expire` at
    `next_deadline`.
    """

    def __init__(
        self, listening: socket.socket, selector: BaseSelector, respond: Callable[[bytes], bytes | None], log: Log
    ) -> None:
        """`respond` is `Pages.respond`."""
        self._listening = listening
        self._selector = selector
        self._respond = respond
        self._log = log
        self._clients: dict[Client, None] = {}  # by age, the oldest first
        self._resume_at: float | None = None  # None unless accepting is paused
        listening.settimeout(0)
        selector.register(listening, EVENT_READ, self._accept)

    def next_deadline(self) -> float | None:
        """Return when `expire` has work, on the clock of time.monotonic(); None if it has none."""
        paused = [] if self._resume_at is None else [self._resume_at]
        return min([client.deadline for client in self._clients] + paused, default=None)

    def expire(self, now: float) -> None:
        """Close the clients that are past their deadline, and accept again after a pause."""
        for client in [client for client in self._clients if client.deadline <= now]:
            client.close()
        if self._resume_at is not None and self._resume_at <= now:
            self._resume_at = None
            self._selector.register(self._listening, EVENT_READ, self._accept)

    def close(self) -> None:
        """Close every client and unregister the listening socket."""
        for client in list(self._clients):
            client.close()
        if self._resume_at is None:
            self._selector.unregister(self._listening)
        self._resume_at = None

    def _accept(self, _mask: int) -> None:
        try:
            sock, _ = self._listening.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._log.warning("metrics endpoint paused", reason=error.strerror, pause_s=_PAUSE_S)
                self._selector.unregister(self._listening)
                self._resume_at = time.monotonic() + _PAUSE_S
            return  # any other error means that this client has left again: accept(2)
        sock = descriptors.own_socket(sock)
        if len(self._clients) >= MAX_CLIENTS:
            idle = (client for client in self._clients if client.is_idle)
            next(idle, next(iter(self._clients))).close()
        client = Client(sock, self._selector, self._respond, self._clients, time.monotonic() + DEADLINE_S)
        # Often the request has arrived already. Answered now, it cannot be closed in favour of a later client.
        client.read()
