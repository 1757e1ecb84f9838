"""What may cross a border, named after who is at fault, and the exit codes of the program.

Each border catches once: `cli` for the operator's errors, `worker.main` for boot errors, `Exchange` and `Lifespan` for
the application's.
"""

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """How the program ends (the numbers from 64 on are those of sysexits.h)."""

    OK = 0  #: stopped as asked
    NO_WORKER = 3  #: no worker ever became ready
    USAGE = 64  #: wrong command line
    UNAVAILABLE = 69  #: a listener could not be bound, or the pid file belongs to a running master
    INTERNAL = 70  #: a fault of asgid itself
    CONFIG = 78  #: the configuration is wrong


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: its place (`file:line`), the key's full name, what was expected."""

    place: str
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.key}: {self.message}" if self.key else f"{self.place}: {self.message}"


class ConfigError(Exception):
    """The operator's: every problem found in one pass, in the order of the file."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class UnavailableError(Exception):
    """The machine's: an address is taken or not ours, a pid file is held. The message names it and the fix."""


class BootError(Exception):
    """The application's, before it serves: it cannot be imported, is not one, or its lifespan startup failed.

    The message is one line. `story` is shown below it: the calls and causes that led there, if the cause of this error
    does not have them.
    """

    def __init__(self, message: str, story: str = "") -> None:
        super().__init__(message)
        self.story = story


class AppError(Exception):
    """The application's, while it serves: it sent what the ASGI specification does not allow in the present state."""


class ClientDisconnectedError(OSError):
    """What `send()` raises when the client has gone (ASGI specification, "Disconnected Client - send exception")."""


class ClientError(Exception):
    """The peer's: a request that is malformed or over a limit; answered with `status`, counted by `kind`.

    `lines` are the header lines that the status asks for.
    """

    def __init__(self, status: int, kind: str, message: str, lines: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.lines = lines
