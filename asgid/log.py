"""The server's own log: a line is a fact with keys, as text for people or JSON for machines.

Writing never waits and never raises: a line that cannot go out at once is dropped and counted, and the next line that
gets out says how many are missing. A server must not stop because nobody reads its log. It shares nothing with the
standard library's `logging`, so an application's `dictConfig` neither silences nor reformats it.

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
#: Under the other names a stream that is a socket could not be opened (ENXIO), such as that of systemd's journal.
_STREAMS = {
    name: fd
    for fd, word in ((1, "stdout"), (2, "stderr"))
    for name in (word, f"/dev/{word}", f"/dev/fd/{fd}", f"/proc/self/fd/{fd}")
}
_LOOK_S = 1.0  # how often a path is looked at for rotation
_BARE = re.compile(r'[^\s"=\\]+')


class Output:
    """Where lines go: "stderr", "stdout", another name of theirs, or a path, which is followed across rotation.

    `lost` counts the lines that could not go out. `user` is the user of the workers: a root that opens files opens with
    the rights of that user what the user can change. Raises OSError if the path cannot be opened. One process writes
    through one Output: make it after the fork, and before the application can close a standard stream.

    If other code closes `fd` and opens something else under its number, nothing is written there: a path is opened
    again, and the lines for a stream are lost.
    """

    def __init__(self, name: str, user: User | None = None) -> None:
        self.lost = 0
        self._user = user
        self._path = None if name in _STREAMS else Path(name).absolute()  # the application may change the directory
        self._use(_copy(_STREAMS[name]) if self._path is None else open_log(user, self._path))

    def _use(self, fd: int) -> None:
        self.fd = descriptors.own(fd)
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLOUT)
        self._look()

    def _look(self) -> None:
        self._is_torn = False  # the last line went out in part
        self._is_missing = False  # there was no file under the path at the last look
        found = os.fstat(self.fd)
        self._identity = (found.st_dev, found.st_ino)
        self.is_file = stat.S_ISREG(found.st_mode)  #: it never makes a writer wait, and keeps large writes whole
        self.is_terminal = os.isatty(self.fd)
        self._next_look = time.monotonic() + _LOOK_S

    @property
    def is_journal(self) -> bool:
        """Whether systemd's journal reads this (systemd.exec(5): JOURNAL_STREAM holds the stream's device and
        inode)."""
        device, inode = self._identity
        return os.environ.get("JOURNAL_STREAM") == f"{device}:{inode}"

    def write(self, data: bytes, lines: int = 1) -> bool:
        """Append whole lines; False, and `lost` grows by `lines`, where not all of them could go out now."""
        if self._path is not None:
            self._follow(self._path)
        if not self._is_intact() and (self._path is None or self.reopen()):
            self.lost += lines
            return False
        rest = b"\n" + data if self._is_torn else data
        size = len(rest)
        # Under `stty tostop` a terminal sends TTOU to a background process that writes, unless it blocks TTOU. With a
        # handler for it the kernel begins write(2) again, forever.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,)) if self.is_terminal else None
        try:
            while rest and (self.is_file or self._poll.poll(0)):
                rest = rest[os.write(self.fd, rest) :]
        except OSError:  # EAGAIN, EPIPE, ENOSPC, EIO: the line is lost, and that is counted below
            pass
        finally:
            if mask is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if not rest:
            self._is_torn = False
            return True
        self._is_torn |= len(rest) < size
        self.lost += lines
        return False

    def reopen(self) -> str:
        """Open the path again by name. Returns "" or why not: then the old file goes on."""
        if self._path is None:
            return ""
        try:
            fd = open_log(self._user, self._path)
        except OSError as error:
            return f"{self._path}: {error.strerror}"
        if self._is_intact():
            os.dup2(fd, self.fd, inheritable=False)
            os.close(fd)
            self._look()
        else:
            self._use(fd)
        return ""

    def close(self) -> None:
        """Let go of the descriptor, if it is still ours; the standard stream that it is a copy of stays open."""
        if self._is_intact():
            os.close(self.fd)

    def _is_intact(self) -> bool:
        return descriptors.identity(self.fd) == self._identity

    def _follow(self, path: Path) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_S
        try:
            found = path.stat()
        except FileNotFoundError:
            # Who rotates may be about to make the new file, with its own owner and mode; the second look makes it.
            self._is_missing, was_missing = True, self._is_missing
            if was_missing:
                self.reopen()
        except OSError:  # the directory is closed to us since privileges were dropped: the open file goes on
            return
        else:
            self._is_missing = False
            if (found.st_dev, found.st_ino) != self._identity:
                self.reopen()


class Log:
    """Facts with keys, one line each: `log.info("worker ready", slot=2, pid=811)`.

    `level` is debug, info, warning or error. `format` is text, json, or auto: text on a terminal, else JSON. `output`
    and `user` are what Output takes, and raise what it raises.
    """

    def __init__(
        self,
        level: str = "info",
        format: str = "auto",  # noqa: A002
        output: str = "stderr",
        user: User | None = None,
    ) -> None:
        self.user = user
        self._threshold = _LEVELS[level]
        self._output = Output(output, user)
        self._is_text = format == "text" or (format == "auto" and self._output.is_terminal)
        self._is_coloured = self._output.is_terminal and not os.environ.get("NO_COLOR")
        self._is_journal = self._output.is_journal
        self._fields: dict[str, object] = {}

    @property
    def fd(self) -> int:
        """The descriptor that lines go to."""
        return self._output.fd

    def bind(self, **fields: object) -> "Log":
        """Return a log whose every line carries `fields` too; it writes to the same place."""
        bound = copy(self)
        bound._fields = self._fields | fields
        return bound

    def debug(self, event: str, /, **fields: object) -> None:
        """Say what only a developer of asgid asks for."""
        self._write("debug", event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Say that the operator asked for something, or that a worker changed its state."""
        self._write("info", event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Say that something went wrong and asgid coped."""
        self._write("warning", event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Say that someone must look."""
        self._write("error", event, fields)

    def reconfigure(self, level: str, format: str, output: str) -> None:  # noqa: A002
        """Become another log, wherever this one is held; raises what the constructor raises, and is then unchanged."""
        old, fields = self._output, self._fields
        self.__dict__.update(vars(Log(level, format, output, self.user)))
        self._fields = fields
        old.close()

    def reopen(self) -> None:
        """Open the file again by its name, after a rotation; where that fails the old file goes on and is told why."""
        if problem := self._output.reopen():
            self.warning("log file not reopened", reason=problem)

    def close(self) -> None:
        """Let go of the descriptor; the standard streams stay open."""
        self._output.close()

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        if _LEVELS[level] < self._threshold:
            return
        fields = self._fields | fields
        lost = self._output.lost
        if lost:
            fields["lines_lost"] = lost
        now_ns = time.time_ns()
        line = self._text(now_ns, level, event, fields) if self._is_text else _json(now_ns, level, event, fields)
        # A path may hold bytes that are no text; they are shown as escapes, in JSON too.
        if self._output.write(line.encode("utf-8", "backslashreplace") + b"\n"):
            self._output.lost -= lost

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
    """Return the text bare where it reads as one word, else as a JSON string: no value looks like a key or a line."""
    if text.isprintable() and _BARE.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _printable(line: str) -> str:
    """Return the line with escapes for what would move a terminal's cursor."""
    line = line.expandtabs(4)
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _copy(stream: int) -> int:
    """Return a descriptor of our own for what is behind a standard stream, which the application may close.

    O_NONBLOCK belongs to the open file, which we share with the shell and all workers, so it may not be set there.
    Asking first (poll) is not enough alone: two processes that share a pipe can both be told of its last free page.
    Regular files are not opened again, for the second opening would begin at offset 0; sockets cannot be opened (poll
    promises them three quarters of the buffer).
    """
    mode = os.fstat(stream).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        try:
            return os.open(f"/proc/self/fd/{stream}", os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:  # no /proc, or it belongs to the user we were before privileges were dropped
            pass
    return os.dup(stream)
