"""One line for each response in the configured format; a client cannot end a line or a field."""

import json
import os
import re
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgid.config.tables import Access
from asgid.log import Log
from asgid.worker.http.access_log import FLUSH_S, AccessLog, check_template

_SCOPE: dict[str, Any] = {
    "type": "http",
    "client": ("192.0.2.7", 4711),
    "method": "POST",
    "path": "/grün",
    "raw_path": b"/gr%C3%BCn",
    "query_string": b"a=1&b=2",
    "http_version": "1.1",
    "headers": [(b"host", b"x"), (b"referer", b"http://x/"), (b"user-agent", b"curl/8"), (b"x-request-id", b"abc")],
}
_STAMP = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"


class _Bench:
    """An access log that writes to a file in `directory`, and the timers it started."""

    def __init__(self, directory: Path, format: str = "combined", output: str = "") -> None:  # noqa: A002
        self.path = Path(output or directory / "access.log")
        self.server_log = directory / "asgid.log"
        self.timers: list[tuple[float, Any]] = []
        self.access = AccessLog(
            Access(format=format, output=str(self.path)),
            Log("info", "text", str(self.server_log)),
            lambda delay, callback: self.timers.append((delay, callback)),
            worker=3,
        )

    def add(self, status: int = 200, response_bytes: int = 1234, elapsed_s: float = 0.0125, **scope: Any) -> None:
        self.access.add(_SCOPE | scope, status, response_bytes, elapsed_s)

    def lines(self) -> list[str]:
        self.access.flush()
        return self.path.read_text().splitlines()


@pytest.fixture
def bench(tmp_path: Path) -> _Bench:
    return _Bench(tmp_path)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Each write to the kernel."""
    pieces: list[bytes] = []
    write = os.write

    def spy(fd: int, data: bytes) -> int:
        pieces.append(data)
        return write(fd, data)

    monkeypatch.setattr("asgid.log.os.write", spy)
    return pieces


def test_combined_is_the_format_of_apache(bench):
    bench.add()
    (line,) = bench.lines()

    assert re.fullmatch(
        rf'192\.0\.2\.7 - - {_STAMP} "POST /gr%C3%BCn\?a=1&b=2 HTTP/1\.1" 200 1234 "http://x/" "curl/8"', line
    )


def test_common_is_combined_without_referer_and_user_agent(tmp_path):
    bench = _Bench(tmp_path, "common")
    bench.add(query_string=b"", status=204, response_bytes=0)
    (line,) = bench.lines()

    assert re.fullmatch(rf'192\.0\.2\.7 - - {_STAMP} "POST /gr%C3%BCn HTTP/1\.1" 204 0', line)


def test_json_is_one_object_a_line(tmp_path):
    """Numbers are numbers, a missing value is null, and UTF-8 is decoded."""
    bench = _Bench(tmp_path, "json")
    bench.add(headers=[(b"user-agent", "grün \x00".encode()), (b"user-agent", b"second")])
    (line,) = bench.lines()
    entry = json.loads(line)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {
        "client": "192.0.2.7",
        "method": "POST",
        "target": "/gr%C3%BCn?a=1&b=2",
        "http_version": "1.1",
        "status": 200,
        "bytes": 1234,
        "duration_s": 0.0125,
        "referer": None,
        "user_agent": "grün \x00",
    }


def test_a_template_may_name_any_field(tmp_path):
    """Literal braces are written twice, and a percent sign is literal."""
    template = (
        "{{100%}} {client} {method} {path} {query} {target} {version} {status} {bytes} {duration_s} {duration_ms}"
    )
    bench = _Bench(
        tmp_path, template + " {referer} {user_agent} {header[X-Request-Id]} {header[nope]} {worker} {pid} {time}"
    )
    bench.add()
    (line,) = bench.lines()
    *words, time = line.split(" ")

    assert words == [
        "{100%}",
        "192.0.2.7",
        "POST",
        r"/gr\xc3\xbcn",
        "a=1&b=2",
        "/gr%C3%BCn?a=1&b=2",
        "1.1",
        "200",
        "1234",
        "0.012500",
        "12.500",
        "http://x/",
        "curl/8",
        "abc",
        "-",
        "3",
        str(os.getpid()),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (
            "{status} {nope} {also[x]}",
            r"no such field: \{nope\}, \{also\[x\]\}; there are .*\{status\}.*\{header\[NAME\]\}",
        ),
        ("{}", r"no such field: \{\}"),
        ("{status:>5}", r"no such field: \{status:>5\}"),
        ("{path!r}", r"no such field: \{path!r\}"),
        ("{path.__class__}", r"no such field: \{path\.__class__\}"),
        ("{header[a b]}", r"no such field: \{header\[a b\]\}"),
        ("{status", "a literal brace is written twice: {{ or }}"),
        ("status}", "a literal brace is written twice: {{ or }}"),
        ("combine", "'combine' is not combined, common, json, or a template"),
    ],
)
def test_a_template_with_an_unknown_field_is_rejected(template, problem):
    """The message has the unknown names and all known ones."""
    with pytest.raises(ValueError, match=problem):
        check_template(template)


@pytest.mark.parametrize("template", ["combined", "common", "json", "{status}", "{header[x-request-id]} {clf_time}"])
def test_a_template_with_known_fields_is_accepted(template):
    check_template(template)


def test_a_client_over_a_unix_socket_has_no_address(bench):
    """ASGI specification: `client` may be None."""
    bench.add(client=None)

    assert bench.lines()[0].startswith("- - - [")


def test_a_websocket_is_logged_as_a_get(bench):
    """Its scope has no method; its handshake is a GET."""
    scope = {key: value for key, value in _SCOPE.items() if key != "method"} | {"type": "websocket"}
    bench.access.add(scope, 101, 0, 1.0)

    assert '"GET /gr%C3%BCn?a=1&b=2 HTTP/1.1" 101 0' in bench.lines()[0]


def test_a_client_cannot_end_a_field(bench):
    """Quotes and other than printable ASCII are escaped, as Apache does."""
    bench.add(headers=[(b"user-agent", b'" 200 "\\\n\r\t\x1b[31m\x7f\xff')], raw_path=b'/"\xc3\xbc')
    (line,) = bench.lines()

    assert r'"POST /\"\xc3\xbc?a=1&b=2 HTTP/1.1" 200' in line
    assert line.endswith(r'"-" "\" 200 \"\\\x0a\x0d\x09\x1b[31m\x7f\xff"')


@given(raw=st.binary(max_size=40), agent=st.binary(max_size=40), path=st.text(max_size=20))
@pytest.mark.parametrize("format", ["combined", "json", '"{path}" "{user_agent}" "{target}"'])
def test_any_bytes_make_one_line_with_the_quotes_of_the_format(tmp_path_factory, format, raw, agent, path):  # noqa: A002
    """The line is printable ASCII."""
    bench = _Bench(tmp_path_factory.mktemp("access"), format)
    bench.add(raw_path=raw, path=path, headers=[(b"user-agent", agent)])
    (line,) = bench.lines()
    bench.access.close()
    bare = re.sub(r"\\.", "", line)

    assert re.fullmatch(r"[ -~]+", line)
    if format == "json":
        assert json.loads(line)["status"] == 200
    else:
        assert bare.count('"') == 6


_OBJECT = '{{"p": "{path}", "a \\" b": "{user_agent}", "t": {target}, "n": {time}, "s": {status}, "r": {referer}}}'
_ARRAY = '["{method} {path}", {user_agent}, {clf_time}, {duration_ms}, {worker}, "{header[x-none]}", {header[x-none]}]'


@given(raw=st.binary(max_size=40), agent=st.binary(max_size=40), path=st.text(max_size=20))
@pytest.mark.parametrize("format", [_OBJECT, _ARRAY], ids=["object", "array"])
def test_the_lines_of_a_json_template_are_json(tmp_path_factory, format, raw, agent, path):  # noqa: A002
    """For any bytes that a client sends."""
    bench = _Bench(tmp_path_factory.mktemp("access"), format)
    bench.add(raw_path=raw, path=path, headers=[(b"user-agent", agent)])
    (line,) = bench.lines()
    bench.access.close()

    assert isinstance(json.loads(line), dict | list)
    assert re.fullmatch(r"[ -~]+", line)


@pytest.mark.parametrize(("format", "is_bare"), [(_OBJECT, False), ('{{"p": {path}, "r": {referer}}}', True)])
def test_a_text_in_json_is_what_the_client_sent(tmp_path, format, is_bare):  # noqa: A002
    """A tab, letters beyond ASCII, quotes. A missing header is null, or - between the quotes of the template."""
    bench = _Bench(tmp_path, format)
    bench.add(path='/a\tb"é', headers=[])
    (line,) = bench.lines()
    found = json.loads(line)

    assert found["p"] == '/a\tb"é'
    assert found["r"] is None
    assert is_bare or found['a " b'] == "-"


@pytest.mark.parametrize("format", ["{status}", '"{path}"', '{path} {{"a": 1}}', '[{clf_time}] "{path}" {status}'])
def test_any_other_template_is_escaped_for_text(tmp_path, format):  # noqa: A002
    """Only an object or an array is certainly JSON."""
    bench = _Bench(tmp_path, format)
    bench.add(path="/é")
    (line,) = bench.lines()

    assert ("path" not in format) or "/\\xc3\\xa9" in line


def test_a_batch_needs_one_timer_and_one_write(bench, writes):
    for _ in range(100):
        bench.add()

    assert [FLUSH_S] == [delay for delay, _ in bench.timers]
    assert writes == []

    bench.access.flush()
    bench.access.flush()
    bench.add()

    assert [piece.count(b"\n") for piece in writes] == [100]
    assert len(bench.timers) == 2


def test_a_flush_writes_for_a_share_of_a_turn_of_the_loop(bench, monkeypatch):
    """The other lines wait for later turns: a client can send texts that take long to escape."""
    clock = count(0.0, 0.004)
    monkeypatch.setattr("asgid.worker.http.access_log.time.monotonic", lambda: next(clock))
    for _ in range(100):
        bench.add()
    turns = 0
    while bench.timers:
        bench.timers.pop()[1]()
        turns += 1

    assert 100 == len(bench.path.read_text().splitlines())
    assert 7 == turns  # 16 lines in each but the last one


def test_a_queue_that_grows_faster_than_it_is_written_loses_lines(bench, monkeypatch):
    """Its memory is bounded; lost lines are reported."""
    clock = count(0.0, 0.004)
    monkeypatch.setattr("asgid.worker.http.access_log.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("asgid.worker.http.access_log._MAX_QUEUED", 20)
    for _ in range(100):
        bench.add()
    bench.timers.pop()[1]()

    assert 16 + 20 == len(bench.lines())


@pytest.mark.parametrize("format", ["combined", "json"])
def test_long_texts_are_cut_before_they_are_escaped(tmp_path, format):  # noqa: A002
    """A request may have 64 KiB of them, and a line of them would block the loop for milliseconds."""
    bench = _Bench(tmp_path, format)
    bench.add(headers=[(b"user-agent", b"\xff" * 60_000)])
    (line,) = bench.lines()

    assert 4096 == line.count("\\xff")


def test_a_large_batch_is_written_to_a_file_in_large_writes_of_whole_lines(bench, writes):
    """O_APPEND does not mix a write with those of other workers."""
    for _ in range(3000):
        bench.add()

    assert len(bench.lines()) == 3000
    assert all(len(piece) <= 65536 and piece.endswith(b"\n") for piece in writes)
    assert len(writes) <= 7


@pytest.mark.parametrize("format", ["combined", "json"])
def test_a_pipe_gets_whole_lines_that_the_kernel_does_not_mix(tmp_path, writes, format):  # noqa: A002
    """Writes of up to PIPE_BUF are atomic; the texts of a longer line are cut."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        bench = _Bench(tmp_path, format, output=str(path))
        for _ in range(100):
            bench.add()
        bench.add(
            raw_path=b"/" + b"\xff" * 8000, headers=[(b"referer", b"\xff" * 8000), (b"user-agent", b"\xff" * 8000)]
        )
        bench.access.flush()
        received = os.read(reader, 1_000_000)
        bench.access.close()
    finally:
        os.close(reader)
    *_, last = received.decode().splitlines()

    assert received == b"".join(writes)
    assert received.count(b"\n") == 101
    assert all(len(piece) <= 4096 and piece.endswith(b"\n") for piece in writes)
    assert (json.loads(last)["bytes"] == 1234) if format == "json" else last.endswith('\\xff"')


def test_lines_that_a_full_pipe_does_not_take_are_counted_and_logged(tmp_path):
    """They cost lines, never responses. The server log reports them at most once a minute."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        bench = _Bench(tmp_path, output=str(path))
        for _ in range(5000):
            bench.add()
        bench.access.flush()
        written = os.read(reader, 1_000_000).count(b"\n")
        bench.access.close()
    finally:
        os.close(reader)
    logged = bench.server_log.read_text().splitlines()

    assert 0 < written < 5000
    assert [f"warning access lines lost lines={5000 - written}"] == [line[24:] for line in logged]


@pytest.mark.parametrize(
    "broken", [{"headers": None}, {"client": 7}, {"raw_path": "/text"}, {"path": None, "raw_path": b""}]
)
def test_a_scope_that_the_application_broke_costs_one_line(bench, broken):
    """An application may change its scope; the lines of other requests are written."""
    bench.add()
    bench.add(**broken)
    bench.add()

    assert len(bench.lines()) == 2
    assert "access lines lost lines=1" in bench.server_log.read_text()


def test_reopen_writes_queued_lines_to_the_old_file(bench):
    """A rotation separates the lines by time."""
    bench.add(status=201)
    old = bench.path.rename(bench.path.with_suffix(".1"))
    bench.access.reopen()
    bench.add(status=202)

    assert [line.split()[8] for line in bench.lines()] == ["202"]
    assert [line.split()[8] for line in old.read_text().splitlines()] == ["201"]


def test_a_file_that_cannot_be_reopened_stays_in_use(bench):
    old = bench.path.rename(bench.path.with_suffix(".1"))
    bench.path.mkdir()
    bench.access.reopen()
    bench.add()
    bench.access.flush()

    assert len(old.read_text().splitlines()) == 1
    assert "access log file not reopened" in bench.server_log.read_text()


def test_close_writes_queued_lines_and_a_late_timer_writes_nothing(bench):
    """A drained worker loses no line, and its last timer uses no closed descriptor."""
    bench.add()
    bench.access.close()
    bench.timers[0][1]()

    assert len(bench.path.read_text().splitlines()) == 1
