"""Status and headers become the lines of a head: known ones are looked up, and what never comes again is let go."""

from typing import Any

import pytest

from asgid.errors import AppError
from asgid.worker.http1 import response_head as module
from asgid.worker.http1.response_head import (
    HEADS,
    Head,
    accepts_trailers,
    checked,
    early_hint,
    trailer_lines,
    without_length,
)

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
            [(b"Upgrade", b"h2c"), (b"connection", b"upgrade, close")],
            Head(OK + b"Upgrade: h2c\r\nconnection: upgrade\r\n", None, True, (), False),
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


def test_a_status_that_may_have_no_body_promises_none():
    """A 205 has to say so, a 304 may tell what a 200 would have had (RFC 9110 sections 15.3.5, 15.3.6 and 8.6)."""
    length = [(b"content-length", b"5")]

    assert Head(b"HTTP/1.1 204 No Content\r\n", None, False, (), True) == checked(204, length)
    assert Head(b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n", None, False, (), True) == checked(205, length)
    assert Head(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n", 5, False, (), True) == checked(304, length)


def test_links_become_an_answer_of_their_own():
    """One line each; of none there is nothing to say."""
    assert b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n" == early_hint([b"</a>", b" </b> "])
    assert b"" == early_hint([])


@pytest.mark.parametrize("link", [b"</a>\r\nb: c", b"\0", "</a>", None])
def test_a_link_that_could_become_framing_is_refused(link):
    """As a header would be."""
    with pytest.raises(AppError):
        early_hint([link])


def test_trailers_are_lines_like_headers():
    """Pairs of any kind, names as they were written."""
    pairs: Any = [(b"X-Sum", b" 1 "), [b"etag", b"2"]]

    assert [b"X-Sum: 1\r\n", b"etag: 2\r\n"] == trailer_lines(pairs)


@pytest.mark.parametrize("name", sorted(module._NO_TRAILERS))
def test_what_must_be_known_before_the_body_is_no_trailer(name):
    """In whatever letters (RFC 9110 section 6.5.1)."""
    with pytest.raises(AppError, match=r"6\.5\.1"):
        trailer_lines([(name.upper(), b"1")])


def test_a_head_can_be_had_without_its_length():
    """Whatever the letters of its name; a value that speaks of it stays."""
    assert OK + b"a: content-length: 5\r\n" == without_length(OK + b"Content-LENGTH: 5\r\na: content-length: 5\r\n")


@pytest.mark.parametrize(
    ("wants", "headers"),
    [
        (True, [(b"te", b"trailers")]),
        (True, [(b"te", b"gzip;q=0.5 ,\tTrailers")]),
        (True, [(b"te", b"gzip"), (b"te", b"trailers")]),
        (False, [(b"te", b"gzip")]),
        (False, [(b"te", b"xtrailers")]),
        (False, [(b"trailer", b"trailers")]),
        (False, []),
    ],
)
def test_a_client_says_whether_it_wants_trailers(wants, headers):
    """In a list of codings (RFC 9110 section 10.1.4)."""
    assert wants == accepts_trailers(headers)


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
    for number in range(3 * max(module._MAX_LINES, module._MAX_HEADS)):
        long = b"x" * module._MAX_LINE_BYTES + b"%d" % number
        HEADS[200, ((b"etag", b"%d" % number), (b"set-cookie", long))]
        HEADS[200, ((b"x-long", long * 4),)]

    assert len(module._LINES) <= module._MAX_LINES
    assert max(len(line) for line, _ in module._LINES.values()) <= module._MAX_LINE_BYTES
    assert len(HEADS) <= module._MAX_HEADS
    assert max(len(head.lines) for head in HEADS.values()) <= module._MAX_HEAD_BYTES
