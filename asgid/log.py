"""The server's own log: each line is an event with fields, as text for people or as JSON for machines.

A write never waits and never raises: a server must not stop because no process reads its log. A line that cannot be
written at once is dropped and counted; the next line that is written has the count. The log is independent of the
standard library's `logging`, so the application's `dictConfig` neither silences nor reformats it.

This file does not know master or worker; a worker binds its slot and pid to its lines.
"""

import json
import os
import re
import select
import signal
import stat
import time
from copy import copy
from pathlib import Path

from asgid import descriptors
from asgid.logfile import open_log
from asgid.user import User

_LEVELS = {"debug": 0, "info": 1, "warning": 2, "error": 3}
_PRIORITIES = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>"}  # sd-daemon(3)
_COLOURS = {"warning": "\33[33mwarning\33[0m", "error": "\33[31merror\33[0m"}
#: open(2) refuses a stream that is a socket (ENXIO), such as that of systemd's journal, so every name maps to a number.
_STREAMS = {
    name: fd
    for fd, word in ((1, "stdout"), (2, "stderr"))
    for name in (word, f"/dev/{word}", f"/dev/fd/{fd}", f"/proc/self/fd/{fd}")
}
_CHECK_S = 1.0  # between two checks of a path for rotation
_BARE = re.compile(r'[^\s"=\\]+')


class Output:
    """The destination of lines: "stderr", "stdout", another name of these, or a path.

    A path is followed across rotation. `lost` counts the lines that were dropped. `user` is the user of the workers:
    root opens a file with the rights of that user if the user can change its path. Raises OSError if the path cannot be
    opened. Each process needs its own Output, made after the fork and before the application can close a standard
    stream.

    If other code closes `fd` and opens another file under its number, no line is written there. A path is then opened
    again; the lines for a stream are dropped.
    """

    def __init__(self, name: str, user: User | None = None) -> None:
        self.lost = 0
        self._user = user
        self._path = None if name in _STREAMS else Path(name).absolute()  # the application may change directory
        self._adopt(_copy(_STREAMS[name]) if self._path is None else open_log(user, self._path))

    def _adopt(self, fd: int) -> None:
        self.fd = descriptors.own(fd)
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLOUT)
        self._inspect()

    def _inspect(self) -> None:
        self._is_cut = False  # whether only a part of the last line was written
        self._is_missing = False  # whether the path led to no file at the last check
        found = os.fstat(self.fd)
        self._identity = (found.st_dev, found.st_ino)
        self.is_file = stat.S_ISREG(found.st_mode)  #: such a file never blocks, and keeps large writes whole
        self.is_terminal = os.isatty(self.fd)
        self._next_check = time.monotonic() + _CHECK_S

    @property
    def is_journal(self) -> bool:
        """Whether systemd's journal reads it: JOURNAL_STREAM has its device and inode (systemd.exec(5))."""
        device, inode = self._identity
        return os.environ.get("JOURNAL_STREAM") == f"{device}:{inode}"

    def write(self, data: bytes, lines: int = 1) -> bool:
        """Append whole lines. If not all of them can be written now, return False and add `lines` to `lost`."""
        if self._path is not None:
            self._follow_rotation(self._path)
        if not self._is_intact() and (self._path is None or self.reopen()):
            self.lost += lines
            return False
        rest = b"\n" + data if self._is_cut else data
        size = len(rest)
        # Under `stty tostop` a terminal sends TTOU to a background process that writes, unless TTOU is blocked. If TTOU
        # has a handler, the kernel restarts write(2) forever.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,)) if self.is_terminal else None
        try:
            while rest and (self.is_file or self._poll.poll(0)):
                rest = rest[os.write(self.fd, rest) :]
        except OSError:  # EAGAIN, EPIPE, ENOSPC, EIO: the line is counted as lost below
            pass
        finally:
            if mask is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if not rest:
            self._is_cut = False
            return True
        self._is_cut |= len(rest) < size
        self.lost += lines
        return False

    def reopen(self) -> str:
        """Open the path again. Returns "", or the reason of a failure; the old file stays in use then."""
        if self._path is None:
            return ""
        try:
            fd = open_log(self._user, self._path)
        except OSError as error:
            return f"{self._path}: {error.strerror}"
        if self._is_intact():
            os.dup2(fd, self.fd, inheritable=False)
            os.close(fd)
            self._inspect()
        else:
            self._adopt(fd)
        return ""

    def close(self) -> None:
        """Close the descriptor if it is still ours; the standard stream of which it is a copy stays open."""
        if self._is_intact():
            os.close(self.fd)

    def _is_intact(self) -> bool:
        return descriptors.identity(self.fd) == self._identity

    def _follow_rotation(self, path: Path) -> None:
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + _CHECK_S
        try:
            found = path.stat()
        except FileNotFoundError:
            # Only the second check creates the file: logrotate may be about to do it, with its own owner and mode.
            self._is_missing, was_missing = True, self._is_missing
            if was_missing:
                self.reopen()
        except OSError:  # no access since privileges were dropped: the open file stays in use
            return
        else:
            self._is_missing = False
            if (found.st_dev, found.st_ino) != self._identity:
                self.reopen()


class Log:
    """Events with fields, one line each: `log.info("worker ready", slot=2, pid=811)`.

    `level` is debug, info, warning or error. `format` is text, json, or auto: text on a terminal, else JSON. `output`
    and `user` are the arguments of Output. Raises OSError if the output cannot be opened.
    """

    def __init__(
        self,
        level: str = "info",
        format: str = "auto",  # noqa: A002
        output: str = "stderr",
        user: User | None = None,
    ) -> None:
        self.user = user
        self._writer = _Writer(level, format, Output(output, user))
        self._fields: dict[str, object] = {}

    @property
    def fd(self) -> int:
        """The descriptor that lines are written to."""
        return self._writer.output.fd

    @property
    def is_hidden_file(self) -> bool:
        """Whether lines go to a regular file that is not standard error too."""
        return self._writer.output.is_file and descriptors.identity(self.fd) != descriptors.identity(2)

    def bind(self, **fields: object) -> "Log":
        """Return a log that adds `fields` to each line. Both always have the same level, format and output."""
        bound = copy(self)
        bound._fields = self._fields | fields
        return bound

    def debug(self, event: str, /, **fields: object) -> None:
        """Log a detail for a developer of asgid."""
        self._write("debug", event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Log a request of the operator or a new state of a worker."""
        self._write("info", event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Log a failure that asgid handled."""
        self._write("warning", event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Log a failure that needs an operator."""
        self._write("error", event, fields)

    def reconfigure(self, level: str, format: str, output: str) -> None:  # noqa: A002
        """Change this log and every log that shares its output. Raises OSError, and changes nothing then."""
        old = self._writer.output
        self._writer.configure(level, format, Output(output, self.user))
        old.close()

    def reopen(self) -> None:
        """Open the file again after a rotation. After a failure the old file stays in use and gets the reason."""
        if problem := self._writer.output.reopen():
            self.warning("log file not reopened", reason=problem)

    def close(self) -> None:
        """Close the descriptor; the standard streams stay open."""
        self._writer.output.close()

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        self._writer.write(level, event, self._fields, fields)


class _Writer:
    """The level, the format and the output of a log; it is shared by all logs that `bind` derives from it."""

    def __init__(self, level: str, format: str, output: Output) -> None:  # noqa: A002
        self.configure(level, format, output)

    def configure(self, level: str, format: str, output: Output) -> None:  # noqa: A002
        self.output = output
        self._threshold = _LEVELS[level]
        self._is_text = format == "text" or (format == "auto" and output.is_terminal)
        self._is_coloured = output.is_terminal and not os.environ.get("NO_COLOR")
        self._is_journal = output.is_journal

    def write(self, level: str, event: str, bound: dict[str, object], fields: dict[str, object]) -> None:
        if _LEVELS[level] < self._threshold:
            return
        fields = bound | fields
        lost = self.output.lost
        if lost:
            fields["lines_lost"] = lost
        now_ns = time.time_ns()
        line = self._text(now_ns, level, event, fields) if self._is_text else _json(now_ns, level, event, fields)
        # A path may contain bytes that are not UTF-8; they are written as escapes, in JSON too.
        if self.output.write(line.encode("utf-8", "backslashreplace") + b"\n"):
            self.output.lost -= lost

    def _text(self, now_ns: int, level: str, event: str, fields: dict[str, object]) -> str:
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now_ns // 1_000_000_000))
        words = [f"{clock}.{now_ns // 1_000_000 % 1000:03}", level, event]
        if self._is_coloured:
            words[1] = _COLOURS.get(level, level)
        stacks: list[str] = []
        for key, value in fields.items():
            text = _word(value)
            if "\n" in text:
                stacks += (f"  {key}:", *(f"    {_printable(part)}" for part in text.strip("\n").split("\n")))
            else:
                words.append(f"{key}={_quoted(text)}")
        lines = [" ".join(words), *stacks]
        return "\n".join(_PRIORITIES[level] + part for part in lines) if self._is_journal else "\n".join(lines)


def rfc3339(now_ns: int) -> str:
    """Return Unix time in nanoseconds as RFC 3339 in UTC, to the millisecond."""
    clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // 1_000_000_000))
    return f"{clock}.{now_ns // 1_000_000 % 1000:03}Z"


def _json(now_ns: int, level: str, event: str, fields: dict[str, object]) -> str:
    return json.dumps({"time": rfc3339(now_ns), "level": level, "event": event, **fields}, default=str)


def _word(value: object) -> str:
    if isinstance(value, float):
        return str(round(value, 3))
    if isinstance(value, bool):
        return "true" if value else "false"
    return "-" if value is None else str(value)


def _quoted(text: str) -> str:
    """Return the text itself if it is one word, else a JSON string, so that no value looks like a key or a line."""
    if text.isprintable() and _BARE.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _printable(line: str) -> str:
    """Return the line with escapes for control characters, which could move the cursor of a terminal."""
    line = line.expandtabs(4)
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _copy(stream: int) -> int:
    """Return our own descriptor of a standard stream, because the application may close the stream.

    O_NONBLOCK must not be set on the stream: it belongs to the open file, which the shell and all workers share. So a
    pipe or a terminal is opened again with O_NONBLOCK. poll(2) alone is not enough: two processes that share a pipe may
    both see its last free page. A regular file would start at offset 0 if it were opened again. A socket cannot be
    opened again; for a socket, poll(2) reports space only if three quarters of the buffer are free.
    """
    mode = os.fstat(stream).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        try:
            return os.open(f"/proc/self/fd/{stream}", os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:  # no /proc, or it belongs to the user before privileges were dropped
            pass
    return os.dup(stream)
