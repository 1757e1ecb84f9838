"""The errors that cross a border, named after the party at fault, and the exit codes of the program.

Each border catches once: `cli` the operator's errors, `worker.main` boot errors, `Exchange` and `Lifespan` those of the
application.
"""

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the program; those from 64 on are from sysexits.h."""

    OK = 0  #: stopped by a signal of the operator, or the command succeeded
    NO_WORKER = 3  #: no worker became ready
    USAGE = 64  #: wrong command line
    UNAVAILABLE = 69  #: a listener cannot be bound, or a running master has the pid file
    INTERNAL = 70  #: a bug in asgid
    CONFIG = 78  #: the configuration is wrong


@dataclass(frozen=True)
class Problem:
    """One problem of a configuration: its place (`file:line`), the full name of the key, the expected value."""

    place: str
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.key}: {self.message}" if self.key else f"{self.place}: {self.message}"


class ConfigError(Exception):
    """The operator's error: all problems of a configuration, in the order of the file."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class UnavailableError(Exception):
    """The machine's error: an address or a pid file cannot be used. The message names it and the fix."""


class BootError(Exception):
    """The application's error before it serves: the import, the check of its interface or the lifespan startup failed.

    The message is one line. `story` follows it in the output: a traceback, if the cause of this error has none.
    """

    def __init__(self, message: str, story: str = "") -> None:
        super().__init__(message)
        self.story = story


class AppError(Exception):
    """The application's error while it serves: a message that the ASGI specification does not allow in this state."""


class ClientDisconnectedError(OSError):
    """Raised by `send()` after the client has disconnected (ASGI, "Disconnected Client - send exception")."""


class ClientError(Exception):
    """The client's error: a malformed request, or one over a limit. The response has `status`; `kind` is for metrics.

    `fields` are the header fields that the status requires.
    """

    def __init__(self, status: int, kind: str, message: str, fields: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.fields = fields
