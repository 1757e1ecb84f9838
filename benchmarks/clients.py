"""Who loads a server: wrk, or our own client of WebSockets. To a run both are one thing, a function of seconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import load, websocket_load
from benchmarks.load import Load
from benchmarks.scenarios import Scenario


@contextmanager
def client(port: int, scenario: Scenario, directory: Path) -> Iterator[Callable[[int], Load]]:
    """Give what loads 127.0.0.1:`port` as the scenario says, for whole seconds; it and the ends may raise LoadError.

    WebSockets are open from the beginning to the end; wrk opens its connections anew for each load.
    """
    if scenario.is_websocket:
        with websocket_load.client(port, scenario) as drive:
            yield drive
    else:
        yield lambda seconds: load.drive(port, scenario, seconds, directory)
