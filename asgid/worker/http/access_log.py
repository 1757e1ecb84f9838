"""The access log: one line an answer, from a template that is compiled once; lines are queued and written in batches.

On the path of a request only a tuple is appended. A client chooses much of what stands in a line, so every text is
escaped in every format, and nothing it sends can end a line or a quoted field. This file does not know how a request is
served.
"""

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii
from string import Formatter
from typing import Any, TypeAlias

from asgid.config import Access
from asgid.log import Log, Output, rfc3339
from asgid.worker.http.fields import TOKEN_CHARACTERS

#: How long a line may wait. 20 ms of 10,000 answers a second are 200 lines, which hold the loop for 0.7 ms.
FLUSH_S = 0.02
_PIPE_BUF = 4096  # pipe(7): what is written in one piece; lines of several workers never mix
_FILE_WRITE = 65536
_CUT = 200  # characters of each text in a line that is too long for a pipe
_REPORT_S = 60.0  # lost lines are told at most this often

Scope: TypeAlias = Mapping[str, Any]  # the application may have put anything there
_Entry: TypeAlias = tuple[Scope, int, int, float]  # scope, status, body bytes, elapsed seconds
_Render: TypeAlias = Callable[[_Entry, int | None], str]

_COMMON = '{client} - - [{clf_time}] "{method} {target} HTTP/{version}" {status} {bytes}'
_PRESETS = {
    "common": _COMMON,
    "combined": _COMMON + ' "{referer}" "{user_agent}"',
    "json": (
        '{{"time": "{time}", "client": {client}, "method": {method}, "target": {target}, "http_version": {version}, '
        '"status": {status}, "bytes": {bytes}, "duration_s": {duration_s}, "referer": {referer}, '
        '"user_agent": {user_agent}}}'
    ),
}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # %b asks the locale
_QUOTE = re.compile(r'\\.|(")')  # an end of a JSON string, and not a quote within it
_UNSAFE = re.compile(r'[^\x20-\x7e]|["\\]')


def _client(scope: Scope) -> str | None:
    return scope["client"][0] if scope.get("client") else None


def _target(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string")
    return (raw + b"?" + query if query else raw).decode("latin-1")


def _header(name: bytes) -> Callable[[Scope], str | None]:
    def read(scope: Scope) -> str | None:
        for key, value in scope["headers"]:
            if key == name:
                text: str = value.decode("latin-1")
                return text
        return None

    return read


#: What a client chose: text, to be escaped. Bytes are read as Latin-1, one character a byte: an escape shows one byte.
_TEXTS: dict[str, Callable[[Scope], str | None]] = {
    "client": _client,
    "method": lambda scope: scope.get("method", "GET"),  # a WebSocket's handshake is one
    "path": lambda scope: scope["path"].encode("utf-8", "surrogatepass").decode("latin-1"),
    "query": lambda scope: scope["query_string"].decode("latin-1"),
    "target": _target,
    "version": lambda scope: scope["http_version"],
    "referer": _header(b"referer"),
    "user_agent": _header(b"user-agent"),
}
#: What we measured: digits.
_NUMBERS: dict[str, Callable[[_Entry], str]] = {
    "status": lambda entry: str(entry[1]),
    "bytes": lambda entry: str(entry[2]),
    "duration_s": lambda entry: f"{entry[3]:.6f}",
    "duration_ms": lambda entry: f"{entry[3] * 1e3:.3f}",
}
_TIMES = ("time", "clf_time")
_BATCH = (*_TIMES, "worker", "pid")  # the same for all lines of one batch
_HEADER = re.compile(rf"header\[([{TOKEN_CHARACTERS.decode()}]+)\]")


def check_template(text: str) -> None:
    """Raise ValueError that says what is wrong with an access format: combined, common, json or a template."""
    try:
        parts = list(Formatter().parse(_PRESETS.get(text, text)))
    except ValueError as error:
        raise ValueError(f"{error}; a brace that is no field is written twice: {{{{ or }}}}") from None
    known = (*_TEXTS, *_NUMBERS, *_BATCH)
    unknown = [
        f"{{{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}}"
        for _, name, spec, conversion in parts
        if name is not None and (spec or conversion or not (name in known or _HEADER.fullmatch(name)))
    ]
    if unknown:
        names = " ".join(f"{{{name}}}" for name in sorted(known))
        raise ValueError(f"no such field: {', '.join(unknown)}; there are {names} {{header[NAME]}}")
    if not any(name for _, name, _, _ in parts):
        raise ValueError(f"{text!r} is no format: combined, common, json, or a template with fields such as {{status}}")


class AccessLog:
    """Queues answers and writes them a batch at a time; `flush` is called by the loop within FLUSH_S.

    `call_later` is the loop's, `worker` the slot. Lines that cannot be written are dropped, counted and told to `log`.
    A line has the time of its batch: at most FLUSH_S late, where nothing blocks. Raises OSError where the output cannot
    be opened, and what `check_template` raises.
    """

    def __init__(
        self,
        settings: Access,
        log: Log,
        call_later: Callable[[float, Callable[[], None]], object],
        worker: int,
    ) -> None:
        self._output = Output(settings.output, log.user)
        self._log = log
        self._call_later = call_later
        self._queue: list[_Entry] = []
        self._batch = {"worker": str(worker), "pid": str(os.getpid())}
        self._render = _compile(settings.format, self._batch)
        self._next_report = 0.0

    def add(self, scope: Scope, status: int, response_bytes: int, elapsed_s: float) -> None:
        """Queue a line: 0.06 µs on the path of the request (measured). Making it costs 2.4 to 3.7 µs, in `flush`."""
        if not self._queue:
            self._call_later(FLUSH_S, self.flush)
        self._queue.append((scope, status, response_bytes, elapsed_s))

    def flush(self) -> None:
        """Write what is queued, in as few writes as whole lines allow."""
        if not self._queue:
            return
        entries, self._queue = self._queue, []
        now_ns = time.time_ns()
        self._batch["time"] = rfc3339(now_ns)
        self._batch["clf_time"] = _clf_time(now_ns // 1_000_000_000)
        most = _FILE_WRITE if self._output.is_file else _PIPE_BUF
        lines: list[bytes] = []
        size = 0
        for entry in entries:
            line = self._line(entry)
            if size + len(line) > most and lines:
                self._output.write(b"".join(lines), len(lines))
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        self._output.write(b"".join(lines), len(lines))
        self._report_lost()

    def reopen(self) -> None:
        """Open the file again by its name, after a rotation; where that fails the old one goes on."""
        self.flush()
        if problem := self._output.reopen():
            self._log.warning("access log file not reopened", reason=problem)

    def close(self) -> None:
        """Write what is queued and let go of the file."""
        self.flush()
        self._output.close()

    def _line(self, entry: _Entry) -> bytes:
        try:
            line = self._render(entry, None).encode()
            if len(line) > _PIPE_BUF and not self._output.is_file:
                line = self._render(entry, _CUT).encode()
        except (AttributeError, LookupError, TypeError, ValueError):  # the application changed the scope past reading
            line = b""
        if not line or (len(line) > _PIPE_BUF and not self._output.is_file):
            self._output.lost += 1
            return b""
        return line

    def _report_lost(self) -> None:
        now = time.monotonic()
        if self._output.lost and now >= self._next_report:
            self._next_report = now + _REPORT_S
            self._log.warning("access lines lost", lines=self._output.lost)
            self._output.lost = 0


def _compile(template: str, batch: Mapping[str, str]) -> _Render:
    """Return what makes a line of an entry; `batch` is read at each line, for its times are known only then."""
    check_template(template)
    template = _PRESETS.get(template, template)
    is_json = _is_json(template)
    form, text = "", ""
    readers: list[_Render] = []
    for literal, name, _, _ in Formatter().parse(template):
        form += literal.replace("%", "%%")
        text += literal
        if name is not None:
            form += "%s"
            within_string = sum(map(bool, _QUOTE.findall(text))) % 2 == 1
            quote = (_json_inner if within_string else _json_text) if is_json else _plain_text
            readers.append(_reader(name, quote, batch, is_quoted=is_json and not within_string))
    form += "\n"

    def render(entry: _Entry, cut: int | None) -> str:
        return form % tuple([read(entry, cut) for read in readers])

    return render


def _is_json(template: str) -> bool:
    """Whether each line of a template is a JSON object or array, if its texts are escaped as JSON wants it."""
    text = "".join(literal + "0" * (name is not None) for literal, name, _, _ in Formatter().parse(template))
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


def _reader(
    name: str, quote: Callable[[str | None, int | None], str], batch: Mapping[str, str], *, is_quoted: bool
) -> _Render:
    """Return what reads a field. With `is_quoted`, a field that is a text gets the quotes that the template has not."""
    if name in _BATCH:
        if is_quoted and name in _TIMES:
            return lambda _entry, _cut: f'"{batch[name]}"'
        return lambda _entry, _cut: batch[name]
    if name in _NUMBERS:
        number = _NUMBERS[name]
        return lambda entry, _cut: number(entry)
    header = _HEADER.fullmatch(name)
    text = _header(header[1].lower().encode()) if header else _TEXTS[name]
    return lambda entry, cut: quote(text(entry[0]), cut)


def _plain_text(text: str | None, cut: int | None) -> str:
    """Return the text with quotes escaped and what is not printable ASCII as `\\xHH`, as Apache does; "-" for none."""
    if text is None:
        return "-"
    text = text[:cut]
    # Four looks in C at what is nearly always plain cost a third of one by a regular expression.
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return "\\" + match[0] if match[0] in '"\\' else f"\\x{ord(match[0]):02x}"


def _json_text(text: str | None, cut: int | None) -> str:
    """Return the text as a JSON string, read as UTF-8 where it is that; null for none."""
    if text is None:
        return "null"
    text = text[:cut]
    return encode_basestring_ascii(
        text if text.isascii() else text.encode("latin-1").decode("utf-8", "backslashreplace")
    )


def _json_inner(text: str | None, cut: int | None) -> str:
    """Return the text for a place between two quotes of the template; "-" for none."""
    return "-" if text is None else _json_text(text, cut)[1:-1]


def _clf_time(now: int) -> str:
    """Return the local time as Apache writes it: 20/Nov/2026:18:00:01 +0100."""
    local = time.localtime(now)
    return time.strftime(f"%d/{_MONTHS[local.tm_mon - 1]}/%Y:%H:%M:%S %z", local)
