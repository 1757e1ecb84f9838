"""Counts requests against `limits.requests` and `workers.threads`, with a queue of bounded length for the others.

Connections and requests are counted apart: an idle connection costs a descriptor and some memory, and no request waits
for it to close. This file does not depend on the type of a request.
"""

from collections import OrderedDict
from enum import Enum, auto
from typing import Generic, TypeVar

from asgid.config.tables import Limits

Request = TypeVar("Request")


class Admission(Enum):
    """The decision about one request."""

    STARTED = auto()
    QUEUED = auto()
    REJECTED = auto()


STARTED, QUEUED, REJECTED = Admission


class RequestLimit(Generic[Request]):
    """A maximum of concurrent requests, and a queue: first in, first out."""

    @classmethod
    def from_settings(cls, limits: Limits, threads: int | None) -> "RequestLimit[Request] | None":
        """Return the limit for an application with `threads` threads, or None if nothing limits it.

        `threads` is None for an application that runs in the event loop. If `limits.requests` is set, `limits.queue`
        bounds the queue. If only `workers.threads` limits concurrency, the queue defaults to `limits.connections`,
        because a server with a thread for each connection would let them wait too; `limits.queue_timeout` bounds the
        wait.
        """
        if limits.requests or threads is None:
            maximum, max_queued = limits.requests, limits.queue
        else:
            maximum, max_queued = threads, limits.queue or limits.connections
        return cls(min(maximum, threads or maximum), max_queued, limits.queue_timeout) if maximum else None

    def __init__(self, maximum: int, max_queued: int, queue_timeout: float) -> None:
        self._maximum, self._max_queued, self._queue_timeout = maximum, max_queued, queue_timeout
        self.running = 0
        # Request to the end of its wait. One timeout for all: the first in is the first to expire, too. An OrderedDict,
        # because a plain dict searches again and again through the holes that are left at its beginning.
        self._queue: OrderedDict[Request, float] = OrderedDict()

    def __len__(self) -> int:
        """Return the length of the queue."""
        return len(self._queue)

    def enter(self, request: Request, now: float) -> Admission:
        """Start `request`, queue it, or reject it."""
        if self.running < self._maximum:
            self.running += 1
            return STARTED
        if len(self._queue) >= self._max_queued:
            return REJECTED
        self._queue[request] = now + self._queue_timeout
        return QUEUED

    def leave(self) -> Request | None:
        """End a request that was started. Returns the first request of the queue, which takes its place."""
        if self._queue:
            return self._queue.popitem(last=False)[0]
        self.running -= 1
        return None

    def withdraw(self, request: Request) -> None:
        """Remove a request from the queue, if it is there."""
        self._queue.pop(request, None)

    def postpone(self, seconds: float) -> None:
        """Extend the wait of every queued request."""
        for request in self._queue:
            self._queue[request] += seconds

    def pop_expired(self, now: float) -> list[Request]:
        """Remove and return the requests whose wait has ended."""
        expired: list[Request] = []
        for request, ends in self._queue.items():
            if ends > now:
                break
            expired.append(request)
        for request in expired:
            del self._queue[request]
        return expired
