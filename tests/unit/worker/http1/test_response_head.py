"""The lines of a head and its facts for the framing; known heads are looked up, and the dictionaries have limits."""

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
def test_checked_returns_the_lines_and_the_facts_for_the_framing(headers, head):
    """The lines lack fields of the server. The facts are the length, a request to close, and own Date and Server."""
    assert head == checked(200, headers)
    assert head == HEADS[200, tuple(headers)]


def test_a_status_without_a_body_has_the_length_that_it_allows():
    """A 204 has none, a 205 has 0, and a 304 may have that of a 200 (RFC 9110 sections 15.3.5, 15.3.6 and 8.6)."""
    length = [(b"content-length", b"5")]

    assert Head(b"HTTP/1.1 204 No Content\r\n", None, False, (), True) == checked(204, length)
    assert Head(b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n", None, False, (), True) == checked(205, length)
    assert Head(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n", 5, False, (), True) == checked(304, length)


def test_early_hint_returns_a_response_with_one_line_for_each_link():
    assert b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n" == early_hint([b"</a>", b" </b> "])
    assert b"" == early_hint([])


@pytest.mark.parametrize("link", [b"</a>\r\nb: c", b"\0", "</a>", None])
def test_a_link_that_could_change_the_framing_is_refused(link):
    """The check is that of a header."""
    with pytest.raises(AppError):
        early_hint([link])


def test_trailer_lines_returns_a_line_for_each_pair():
    """A pair may be a list, and the case of a name is kept."""
    pairs: Any = [(b"X-Sum", b" 1 "), [b"etag", b"2"]]

    assert [b"X-Sum: 1\r\n", b"etag: 2\r\n"] == trailer_lines(pairs)


@pytest.mark.parametrize("name", sorted(module._NO_TRAILERS))
def test_a_field_that_a_receiver_needs_before_the_body_is_refused_as_a_trailer(name):
    """The case of its name does not matter (RFC 9110 section 6.5.1)."""
    with pytest.raises(AppError, match=r"6\.5\.1"):
        trailer_lines([(name.upper(), b"1")])


def test_without_length_removes_the_content_length_only():
    """The case of the name does not matter. A value that contains the name stays."""
    assert OK + b"a: content-length: 5\r\n" == without_length(OK + b"Content-LENGTH: 5\r\na: content-length: 5\r\n")


@pytest.mark.parametrize(
    ("accepts", "headers"),
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
def test_accepts_trailers_is_true_if_te_lists_trailers(accepts, headers):
    """TE is a list of codings (RFC 9110 section 10.1.4)."""
    assert accepts == accepts_trailers(headers)


def test_a_head_is_checked_once():
    parts = (200, ((b"x-checked", b"once"),))

    assert HEADS[parts] is HEADS[parts]


def test_a_list_is_a_valid_header_but_not_a_key():
    """The ASGI specification requires an iterable of two. The dictionary refuses a list, so `checked` is called."""
    pairs: Any = [[b"a", b"b"]]
    with pytest.raises(TypeError):
        HEADS[200, tuple(pairs)]

    assert OK + b"a: b\r\n" == checked(200, pairs).lines


@pytest.mark.parametrize("pair", [(b"a",), (b"a", b"b", b"c"), ("a", b"b"), (b"a", "b"), (b"a", None), b"ab", None, 5])
def test_a_header_is_a_pair_of_bytes(pair):
    with pytest.raises(AppError, match="a name and a value, both bytes"):
        checked(200, [pair])


def test_heads_and_lines_that_differ_do_not_fill_the_memory():
    for number in range(3 * max(module._MAX_LINES, module._MAX_HEADS)):
        long = b"x" * module._MAX_LINE_BYTES + b"%d" % number
        HEADS[200, ((b"etag", b"%d" % number), (b"set-cookie", long))]
        HEADS[200, ((b"x-long", long * 4),)]

    assert len(module._LINES) <= module._MAX_LINES
    assert max(len(line) for line, _ in module._LINES.values()) <= module._MAX_LINE_BYTES
    assert len(HEADS) <= module._MAX_HEADS
    assert max(len(head.lines) for head in HEADS.values()) <= module._MAX_HEAD_BYTES
