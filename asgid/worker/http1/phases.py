"""The phases of a connection of HTTP/1.1: what each waits for, its timeout, and what happens at its deadline.

A connection is in one phase at a time. The table does not act: `Connection.on_deadline` does.
"""

from enum import IntEnum
from math import inf
from typing import NamedTuple

from asgid.config.tables import Timeouts


class Phase(IntEnum):
    """What a connection waits for."""

    HEAD = 0
    BODY = 1
    APP = 2
    WRITE = 3
    KEEP_ALIVE = 4
    BUFFERED = 5


HEAD, BODY, APP, WRITE, KEEP_ALIVE, BUFFERED = Phase


class Wait(NamedTuple):
    """One row of the table; `make docs` writes it into `docs/architecture.md`."""

    awaited: str
    timeout: str  #: the key in [timeouts], and the label of the metric; "" without a deadline
    at_deadline: str


PHASES = {
    HEAD: Wait(
        "the rest of a request head, from its first byte; of the first head, from the connection",
        "header",
        "408; closes if no byte of a head has come",
    ),
    BODY: Wait("more of the request body", "body", "408; waits on if asgid does not read, or has not sent 100"),
    APP: Wait(
        "the response of the application, or its place in the queue",
        "request",
        "cancels the call: 504, or an aborted response; applies in every phase",
    ),
    WRITE: Wait("the client to read its response", "write", "aborts; waits on if the client has read a part"),
    KEEP_ALIVE: Wait("the next request", "keep_alive", "closes"),
    BUFFERED: Wait("the turn of received bytes", "", "has no deadline"),
}


def phase_timeouts(timeouts: Timeouts) -> tuple[float, ...]:
    """Return the seconds of each phase, by its number; inf without a deadline."""
    return tuple(getattr(timeouts, PHASES[phase].timeout) if PHASES[phase].timeout else inf for phase in Phase)
