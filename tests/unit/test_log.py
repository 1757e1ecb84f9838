"""The log writes one line an event, and never blocks or ends the server."""

import json
import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asgid.log import Log, Output

_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} "


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "asgid.log"


def _log(path: Path, level: str = "info", format: str = "text") -> Log:  # noqa: A002
    return Log(level, format, str(path))


@contextmanager
def _fifo(path: Path) -> Iterator[int]:
    """A FIFO at `path`, and the descriptor that reads from it."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield reader
    finally:
        os.close(reader)


def _drain(reader: int) -> bytes:
    data = b""
    while True:
        try:
            part = os.read(reader, 65536)
        except BlockingIOError:
            return data
        if not part:
            return data
        data += part


def _socket_ends() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def test_a_text_line_has_a_time_a_level_an_event_and_fields(path):
    _log(path).info("worker ready", slot=2, pid=811, boot_s=0.41234, tls=False, reason=None)

    line = path.read_text()

    assert re.fullmatch(_TIME + "info worker ready slot=2 pid=811 boot_s=0.412 tls=false reason=-\n", line)


def test_reconfigure_changes_a_bound_log_too(path):
    log = _log(path)
    bound = log.bind(slot=1)
    log.reconfigure("warning", "json", str(path.with_suffix(".new")))
    bound.info("a")
    bound.warning("b")

    (line,) = path.with_suffix(".new").read_text().splitlines()

    assert path.read_text() == ""
    assert [json.loads(line)[key] for key in ("event", "slot")] == ["b", 1]


def test_a_failed_reconfigure_changes_nothing(path):
    log = _log(path)
    with pytest.raises(OSError, match="Is a directory"):
        log.reconfigure("warning", "json", str(path.parent))
    log.info("a")

    assert path.read_text()[24:] == "info a\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two words", '"two words"'),
        ("", '""'),
        ("a=b", '"a=b"'),
        ('say "no"', '"say \\"no\\""'),
        ("c:\\x", '"c:\\\\x"'),
        ("grün", "grün"),
        ("\x1b[2J", '"\\u001b[2J"'),
        ("\x9b2J", '"\\u009b2J"'),
        ("a\rb", '"a\\rb"'),
        ("\udc80", '"\\udc80"'),
    ],
)
def test_no_value_looks_like_a_key_a_line_or_a_control_sequence(path, value, shown):
    _log(path).warning("event", value=value)

    line = path.read_text()

    assert line.endswith(f" warning event value={shown}\n")


def test_a_stack_is_on_indented_lines_below_its_event(path):
    """Only a line without indentation is an event, so the message of an exception cannot forge one."""
    stack = 'Traceback:\n  File "x.py"\n2026-11-20 18:00:01.123 error \x1b[31mforged\n'
    _log(path).error("app failed", slot=1, stack=stack, path="/x")

    head, *rest = path.read_text().splitlines()

    assert re.fullmatch(_TIME + "error app failed slot=1 path=/x", head)
    assert rest == [
        "  stack:",
        "    Traceback:",
        '      File "x.py"',
        r"    2026-11-20 18:00:01.123 error \x1b[31mforged",
    ]


def test_json_is_one_object_a_line(path):
    """Time in UTC, level, event, then the fields with their types. Bytes that are not UTF-8 are escaped."""
    log = _log(path, format="json")
    log.info("worker ready", slot=2, boot_s=0.41234, stack="a\nb", path="/tmp/\udc80", who=Path("/x"))

    (line,) = path.read_text().splitlines()
    fact = json.loads(line)

    assert list(fact) == ["time", "level", "event", "slot", "boot_s", "stack", "path", "who"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fact["time"])
    assert list(fact.values())[1:] == ["info", "worker ready", 2, 0.41234, "a\nb", "/tmp/\udc80", "/x"]


def test_auto_is_json_without_a_terminal(path):
    _log(path, format="auto").info("x")

    assert json.loads(path.read_text())["event"] == "x"


def test_auto_is_text_with_colours_on_a_terminal(path, monkeypatch):
    """Only warning and error have a colour; NO_COLOR removes it."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = os.openpty()
    try:
        terminal = Log("info", "auto", os.ttyname(theirs))
        terminal.info("x")
        terminal.warning("y")
        monkeypatch.setenv("NO_COLOR", "1")
        plain = Log("info", "auto", os.ttyname(theirs))
        plain.warning("z")
        shown = b""
        while b"z" not in shown:
            shown += os.read(ours, 4096)
        terminal.close()
        plain.close()
    finally:
        os.close(ours)
        os.close(theirs)

    x, y, z = shown.decode().split()[2::4][:3], shown.decode(), shown.decode().splitlines()[-1]

    assert x[0] == "info"
    assert "\x1b[33mwarning\x1b[0m y" in y
    assert "\x1b" not in z


def test_lines_below_the_level_are_not_written(path):
    log = _log(path, level="warning")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")

    assert [line[24:] for line in path.read_text().splitlines()] == ["warning c", "error d"]


def test_a_bound_log_adds_its_fields_and_does_not_change_the_other(path):
    """The lines of a worker have its slot; a field of the line has precedence."""
    log = _log(path)
    worker = log.bind(slot=2).bind(pid=7)
    worker.info("a", pid=8)
    log.info("b")

    assert [line[24:] for line in path.read_text().splitlines()] == ["info a slot=2 pid=8", "info b"]


def test_every_line_for_the_journal_has_its_priority(path, monkeypatch):
    """systemd.exec(5): if JOURNAL_STREAM names the stream, the prefix `<n>` is the priority."""
    path.touch()
    found = path.stat()
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    _log(path).error("x", stack="a\nb")

    lines = path.read_text().splitlines()

    assert len(lines) == 4
    assert all(line.startswith("<3>") for line in lines)


def test_reopen_continues_in_the_new_file_under_the_same_descriptor(path):
    """As at USR1 after a rotation; a bound log follows."""
    log = _log(path)
    bound = log.bind(slot=1)
    log.info("before")
    fd = log.fd
    old = path.rename(path.with_suffix(".1"))
    log.reopen()
    bound.info("after")

    assert fd == log.fd
    assert not os.get_inheritable(log.fd)
    assert "before" in old.read_text()
    assert "after" in path.read_text()
    assert "after" not in old.read_text()


def test_a_file_that_cannot_be_reopened_stays_in_use_and_gets_the_reason(path):
    log = _log(path)
    old = path.rename(path.with_suffix(".1"))
    path.mkdir()
    log.reopen()
    log.info("after")

    assert f"log file not reopened reason={path}:" in old.read_text().replace('"', "")
    assert "info after" in old.read_text()


def test_a_path_is_followed_to_a_new_file(path, monkeypatch):
    """A rotation needs no signal: the path is checked once a second at most."""
    log = _log(path)
    log.info("before")
    old = path.rename(path.with_suffix(".1"))
    path.touch()
    log.info("at once")
    log._writer.output._next_check = 0.0
    log.info("after")

    assert [line.split(" info ")[1] for line in old.read_text().splitlines()] == ["before", "at once"]
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["after"]


def test_a_missing_file_is_created_at_the_second_check(path, monkeypatch):
    """Before that, logrotate can create it with another owner and mode."""
    monkeypatch.setattr("asgid.log._CHECK_S", 0.0)
    log = _log(path)
    old = path.rename(path.with_suffix(".1"))
    log.info("first")
    was_there = path.exists()
    log.info("second")

    assert not was_there
    assert [line.split()[-1] for line in old.read_text().splitlines()] == ["first"]
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["second"]


def test_a_relative_path_does_not_move_with_the_working_directory(tmp_path, monkeypatch):
    """`app.directory` must not move the log file at the next rotation."""
    monkeypatch.chdir(tmp_path)
    log = Log("info", "text", "relative.log")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "relative.log").unlink()
    log.reopen()
    log.info("x")

    assert "info x" in (tmp_path / "relative.log").read_text()


def test_an_absolute_path_needs_no_working_directory(path, tmp_path, monkeypatch):
    """A deployment may remove the directory in which asgid was started."""
    gone = tmp_path / "release"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    _log(path).info("x")

    assert "info x" in path.read_text()


def test_lines_that_no_process_reads_are_dropped_and_counted(path):
    """A full pipe never blocks the writer. The next line that is written has the count, once."""
    with _fifo(path) as reader:
        log = _log(path)
        for number in range(2000):
            log.info("line", number=number, filler="x" * 100)
        first = _drain(reader).decode().splitlines()
        log.info("again")
        log.info("and again")
        again, and_again = _drain(reader).decode().splitlines()
        log.close()

    assert 0 < len(first) < 2000
    assert [f"number={number}" for number in range(len(first))] == [line.split()[4] for line in first]
    assert again.endswith(f"info again lines_lost={2000 - len(first)}")
    assert and_again.endswith("info and again")


def test_after_a_partly_written_line_the_next_one_begins_on_a_new_line(path):
    """A stack can be larger than the free space of the pipe."""
    with _fifo(path) as reader:
        log = _log(path, format="json")
        log.info("large", stack="x" * 100_000)
        part = _drain(reader)
        log.info("next")
        rest = _drain(reader)
        log.close()

    assert 0 < len(part) < 100_000
    assert rest.startswith(b"\n{")
    assert json.loads(rest)["lines_lost"] == 1


def test_a_closed_reader_does_not_end_the_server(path):
    with _fifo(path):
        log = _log(path)
    log.info("x")

    assert log._writer.output.lost == 1


def test_a_standard_stream_that_the_application_closes_stays_in_use(path):
    """The log has a copy, with a number that no later open(2) gets."""
    program = (
        "import os\n"
        "from asgid.log import Log\n"
        "log = Log('info', 'text', 'stderr')\n"
        "os.close(2)\n"
        f"other = os.open({str(path)!r}, os.O_WRONLY | os.O_CREAT)\n"
        "log.info('after', other=other)\n"
    )
    with path.with_name("stderr").open("w+") as stderr:
        subprocess.run([sys.executable, "-c", program], stderr=stderr, check=True, timeout=60)
        stderr.seek(0)
        text = stderr.read()

    assert "after other=2" in text
    assert path.read_text() == ""


def test_a_foreign_file_under_the_number_of_the_log_is_not_written(path):
    """Other code closed the descriptor and opened a file; the log opens its path again."""
    log = _log(path)
    log.info("before")
    with path.with_name("precious").open("w+b") as precious:
        os.dup2(precious.fileno(), number := log.fd)
        log.info("after")
        log.reopen()
        log.close()

        assert number != log.fd
        assert os.fstat(number).st_ino == os.fstat(precious.fileno()).st_ino
        assert precious.read() == b""

    os.close(number)
    assert [line.split()[3] for line in path.read_text().splitlines()] == ["before", "after"]


def test_a_stream_whose_number_is_reused_loses_lines(path):
    """No line is written into the file of other code."""
    output = Output("stderr")
    with path.open("w+b") as precious:
        os.dup2(precious.fileno(), output.fd)

        assert not output.write(b"x\n")
        assert output.lost == 1
        assert precious.read() == b""

    os.close(output.fd)


def test_a_full_disk_does_not_end_the_server():
    output = Output("/dev/full")

    assert not output.write(b"x\ny\n", 2)
    assert output.lost == 2

    output.close()


@pytest.mark.parametrize("ends", [os.pipe, _socket_ends])
def test_an_unread_standard_error_never_blocks_and_its_flags_do_not_change(ends):
    """For a pipe of a shell and a socket of the journal. The open file is shared, so it must not get O_NONBLOCK."""
    program = (
        "import fcntl, os, sys\n"
        "from asgid.log import Log\n"
        "log = Log('info', 'text', 'stderr')\n"
        "for number in range(5000): log.info('line', number=number, filler='x' * 100)\n"
        "print(fcntl.fcntl(2, fcntl.F_GETFL) & os.O_NONBLOCK, log.fd > 2, flush=True)\n"
        "sys.stdin.readline()\n"
        "log.info('again')\n"
    )
    ours, theirs = ends()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs, text=True
        ) as process:
            assert process.stdout
            is_through = bool(select.select([process.stdout], [], [], 60)[0])  # and no line was read
            if not is_through:
                process.kill()
            flags = process.stdout.readline()
            os.set_blocking(ours, False)
            written = _drain(ours).decode().splitlines()
            process.communicate("\n", timeout=60)
        last = _drain(ours).decode()
    finally:
        os.close(ours)
        os.close(theirs)

    assert is_through, "the program waits for a reader"
    assert flags == "0 True\n"
    assert 0 < len(written) < 5000
    assert last.endswith(f" info again lines_lost={5000 - len(written)}\n")


def test_close_leaves_the_standard_streams_open():
    Output("stderr").close()

    assert os.fstat(2)
