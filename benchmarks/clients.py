"""The load generators, wrk and the WebSocket client of this folder, as one interface: a function of seconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import load, websocket_load
from benchmarks.load import Load
from benchmarks.scenarios import Scenario


@contextmanager
def client(port: int, scenario: Scenario, directory: Path) -> Iterator[Callable[[int], Load]]:
    """Yield a function that puts the scenario's load on 127.0.0.1:`port` for whole seconds.

    It and the context manager may raise LoadError. WebSockets stay open until the end; wrk opens new connections for
    each load.
    """
    if scenario.is_websocket:
        with websocket_load.client(port, scenario) as drive:
            yield drive
    else:
        yield lambda seconds: load.drive(port, scenario, seconds, directory)
