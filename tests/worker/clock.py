"""The clock of a worker under test: it stands still until the test moves it.

So no test waits for a deadline, or depends on the speed of the machine.
"""

from contextlib import ExitStack
from unittest.mock import patch

_READERS = (  # the modules of the worker that read the clock
    *("http.exchange", "http.rejection_log", "http1.connection", "http1.responder"),
    *("net.lingering_close", "net.proxy_protocol", "net.turns"),
    *("process.drain", "process.ticker", "websocket.protocol", "websocket.session"),
)


class Clock:
    """`now()` is the time, for the worker between `start()` and `stop()` as well."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.look_s = 0.0  #: how long each look at the clock takes
        self._patches = ExitStack()

    def start(self) -> None:
        for name in _READERS:
            self._patches.enter_context(patch(f"asgid.worker.{name}.monotonic", self.now))

    def stop(self) -> None:
        self._patches.close()

    def now(self) -> float:
        self.time += self.look_s
        return self.time
