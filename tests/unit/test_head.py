"""Status and headers become the lines of a head: known ones are looked up, and what never comes again is let go."""

from typing import Any

import pytest

from asgid.errors import AppError
from asgid.worker import head as module
from asgid.worker.head import HEADS, Head, checked

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("headers", "head"),
    [
        ([], Head(OK, None, False, (), False)),
        ([(b"X-A", b" b\t"), (b"x-a", b"")], Head(OK + b"X-A: b\r\nx-a: \r\n", None, False, (), False)),
        ([(b"Content-Length", b"5")], Head(OK + b"Content-Length: 5\r\n", 5, False, (), False)),
        ([(b"content-length", b"5")] * 2, Head(OK + b"content-length: 5\r\n", 5, False, (), False)),
        ([(b"connection", b"keep-alive, Close")], Head(OK, None, True, (), False)),
        (
            [(b"connection", b"x"), (b"keep-alive", b"5"), (b"Transfer-Encoding", b"chunked")],
            Head(OK, None, False, (), False),
        ),
        (
            [(b"date", b"now"), (b"Server", b"me")],
            Head(OK + b"date: now\r\nServer: me\r\n", None, False, (b"date:", b"server:"), False),
        ),
    ],
)
def test_a_head_says_what_it_means_to_the_framing(headers, head):
    """Lines that are ours are left out; a length, a wish to close, and lines in place of ours are told."""
    assert head == checked(200, headers)
    assert head == HEADS[200, tuple(headers)]


def test_a_head_is_checked_once():
    """The same parts give the very same head."""
    parts = (200, ((b"x-checked", b"once"),))

    assert HEADS[parts] is HEADS[parts]


def test_lists_are_no_keys_but_headers_all_the_same():
    """The specification says an iterable of two; what the dictionary refuses is checked each time."""
    pairs: Any = [[b"a", b"b"]]
    with pytest.raises(TypeError):
        HEADS[200, tuple(pairs)]

    assert OK + b"a: b\r\n" == checked(200, pairs).lines


@pytest.mark.parametrize("pair", [(b"a",), (b"a", b"b", b"c"), ("a", b"b"), (b"a", "b"), (b"a", None), b"ab", None, 5])
def test_a_header_is_a_pair_of_bytes(pair):
    """The message shows what it was."""
    with pytest.raises(AppError, match="a name and a value, both bytes"):
        checked(200, [pair])


def test_what_never_comes_again_does_not_fill_the_memory():
    """Heads and lines have bounds in number, and long ones are not kept."""
    for number in range(3 * max(module._MOST_LINES, module._MOST_HEADS)):
        long = b"x" * module._LONGEST_LINE + b"%d" % number
        HEADS[200, ((b"etag", b"%d" % number), (b"set-cookie", long))]
        HEADS[200, ((b"x-long", long * 4),)]

    assert len(module._LINES) <= module._MOST_LINES
    assert max(len(line) for line, _ in module._LINES.values()) <= module._LONGEST_LINE
    assert len(HEADS) <= module._MOST_HEADS
    assert max(len(head.lines) for head in HEADS.values()) <= module._LONGEST_HEAD
