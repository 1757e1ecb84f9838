"""Logs that keep their lines, for tests to read."""

from collections.abc import Callable
from dataclasses import dataclass

from asgid.worker.asgi import Scope


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log."""

    level: str
    event: str
    fields: dict[str, object]


class Recorder:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **fields: self.lines.append(Line(level, event, fields))


class AccessRecorder:
    """An access log that keeps its entries."""

    def __init__(self) -> None:
        self.access_entries: list[tuple[str, str, int, int, float]] = []

    def add(self, scope: Scope, status: int, response_bytes: int, elapsed_s: float) -> None:
        self.access_entries.append((scope.get("method", ""), scope.get("path", ""), status, response_bytes, elapsed_s))
