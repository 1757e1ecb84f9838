"""A responder converts response messages to bytes: each order of messages, each framing, and each refusal."""

from typing import Any

import pytest

from asgid.errors import AppError
from asgid.worker.http.response import State
from asgid.worker.http1.responder import Responder
from asgid.worker.http1.response_head import error_response
from tests.responders import make_responder

COMMON = b"date: today\r\nserver: asgid\r\n"


def respond(
    *bodies: bytes,
    status: int = 200,
    headers: Any = (),
    is_head: bool = False,
    minor: int = 1,
    keep_alive: bool = True,
    must_close: bool = False,
) -> tuple[bytes, bool]:
    """Return the bytes of a whole response of these parts, and whether the connection is kept."""
    response = make_responder(is_head=is_head, minor=minor, keep_alive=keep_alive)
    response.start({"type": "http.response.start", "status": status, "headers": headers})
    written = b""
    for index, body in enumerate(bodies):
        message = {"type": "http.response.body", "body": body, "more_body": index < len(bodies) - 1}
        written += b"".join(response.body(message, COMMON, must_close=must_close))
    assert response.state is State.COMPLETE
    return written, response.keep_alive


OK = b"HTTP/1.1 200 OK\r\n"
# arguments of `respond`, bytes of the response, whether the connection is kept; tests/worker/contract_cases.py has more
WRITTEN: dict[str, tuple[dict[str, Any], bytes, bool]] = {
    "one part": ({"bodies": [b"hi"]}, OK + b"content-length: 2\r\n" + COMMON + b"\r\nhi", True),
    "the server wants to close": (
        {"bodies": [b""], "must_close": True},
        OK + b"content-length: 0\r\nconnection: close\r\n" + COMMON + b"\r\n",
        False,
    ),
    "framing from the application": (
        {"bodies": [b""], "headers": [(b"Transfer-Encoding", b"chunked"), (b"connection", b"upgrade")]},
        OK + b"content-length: 0\r\n" + COMMON + b"\r\n",
        True,
    ),
    "an upgrade": (
        {"bodies": [b""], "status": 426, "headers": [(b"upgrade", b"h2c"), (b"connection", b"upgrade")]},
        b"HTTP/1.1 426 Upgrade Required\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 0\r\n%b\r\n" % COMMON,
        True,
    ),
}


@pytest.mark.parametrize(("given", "written", "is_kept"), WRITTEN.values(), ids=WRITTEN.keys())
def test_a_response_has_these_bytes(given, written, is_kept):
    """The connection is kept if client, application and server allow it."""
    bodies = given.pop("bodies")

    assert (written, is_kept) == respond(*bodies, **given)


REFUSED_HEADERS = {
    "a line feed": (b"a", b"b\nc"),
    "a carriage return": (b"a", b"b\rc"),
    "both": (b"a", b"b\r\n\r\n<html>"),
    "a NUL": (b"a", b"\0"),
    "a delete": (b"a", b"\x7f"),
    "a name with a colon": (b"a:", b"b"),
    "a name with a line": (b"a\r\nb", b"c"),
    "a name with a space": (b"a b", b"c"),
    "a name of other letters": ("é".encode(), b"c"),
    "no name": (b"", b"b"),
    "text": ("a", "b"),
    "a text value": (b"a", "b"),
    "a number": (b"a", 1),
    "a value without a hash": (b"a", bytearray(b"b")),
    "a negative length": (b"content-length", b"-1"),
    "an empty length": (b"content-length", b""),
}


@pytest.mark.parametrize("header", REFUSED_HEADERS.values(), ids=REFUSED_HEADERS.keys())
def test_a_header_that_could_change_the_framing_is_refused(header):
    """AppError is raised before a byte is written, and again for the next response: such a line is not stored."""
    for _ in range(2):
        with pytest.raises(AppError):
            respond(b"", headers=[header])


@pytest.mark.parametrize("status", [0, 100, 101, 199, 1000, "200", None, True, 200.5])
def test_a_status_that_is_not_final_is_refused(status):
    with pytest.raises(AppError, match="is not a final status from 200 to 999"):
        respond(b"", status=status)


def _started(**kinds: Any) -> Responder:
    response = make_responder(is_head=False, minor=1, keep_alive=True)
    response.start({"type": "http.response.start", "status": 200, **kinds})
    return response


def test_a_message_in_a_wrong_order_is_refused():
    waiting = make_responder(is_head=False, minor=1, keep_alive=True)
    with pytest.raises(AppError, match="waiting"):
        waiting.body({}, COMMON, must_close=False)
    started = _started()
    with pytest.raises(AppError, match="started"):
        started.start({"status": 200})
    started.body({"more_body": True}, COMMON, must_close=False)
    with pytest.raises(AppError, match="streaming"):
        started.start({"status": 200})
    started.body({}, COMMON, must_close=False)
    with pytest.raises(AppError, match="complete"):
        started.body({}, COMMON, must_close=False)


@pytest.mark.parametrize(
    ("body", "more", "message"), [(b"abcdef", True, "1 bytes longer"), (b"abc", False, "2 bytes short")]
)
def test_a_first_part_of_a_wrong_length_is_refused(body, more, message):
    """The head is not written yet, so the server can send a 500."""
    response = _started(headers=[(b"content-length", b"5")])
    with pytest.raises(AppError, match=message):
        response.body({"body": body, "more_body": more}, COMMON, must_close=False)

    assert State.HEAD_PENDING is response.state


@pytest.mark.parametrize(
    ("body", "more", "message"), [(b"cdefg", True, "2 bytes longer"), (b"c", False, "2 bytes short")]
)
def test_a_later_part_of_a_wrong_length_is_refused(body, more, message):
    """A part of the response is already written."""
    response = _started(headers=[(b"content-length", b"5")])
    response.body({"body": b"ab", "more_body": True}, COMMON, must_close=False)
    with pytest.raises(AppError, match=message):
        response.body({"body": body, "more_body": more}, COMMON, must_close=False)

    assert State.STREAMING is response.state


def test_trailers_are_written_with_the_last_message():
    """After the body the response waits for its trailers."""
    response = _started(trailers=True, headers=[(b"content-length", b"2")])
    head, payload, after = response.body({"body": b"hi"}, COMMON, must_close=False)

    assert (OK + b"transfer-encoding: chunked\r\n" + COMMON + b"\r\n2\r\n", b"hi", b"\r\n") == (head, payload, after)
    assert "TRAILERS" == response.state.name
    assert b"" == response.trailers({"headers": [(b"x", b"1")], "more_trailers": True}, is_wanted=True)
    assert b"0\r\nx: 1\r\ny: 2\r\n\r\n" == response.trailers({"headers": [(b"y", b"2")]}, is_wanted=True)
    assert "COMPLETE" == response.state.name


def test_trailers_are_left_out_if_the_client_does_not_accept_them():
    response = _started(trailers=True)
    response.body({"body": b"hi"}, COMMON, must_close=False)

    assert b"0\r\n\r\n" == response.trailers({"headers": [(b"x", b"1")]}, is_wanted=False)


def test_begin_file_returns_the_framing_before_and_after_the_file():
    """Another message is refused until the file is sent."""
    response = _started()
    response.declare_length(5, more=True)
    response.body({"more_body": True}, COMMON, must_close=False)

    assert (b"5\r\n", 5, b"\r\n") == response.begin_file(5, more=True)
    assert "SENDING_FILE" == response.state.name
    with pytest.raises(AppError, match="sending"):
        response.body({}, COMMON, must_close=False)
    response.end_file(more=True)
    assert (b"3\r\n", 3, b"\r\n0\r\n\r\n") == response.begin_file(3, more=False)
    response.end_file(more=False)
    assert "COMPLETE" == response.state.name


def test_a_file_that_is_the_whole_body_has_a_content_length():
    response = _started()
    response.declare_length(5, more=False)

    assert b"content-length: 5\r\n" in response.body({"more_body": True}, COMMON, must_close=False)[0]
    assert (b"", 5, b"") == response.begin_file(5, more=False)


@pytest.mark.parametrize(("length", "more", "message"), [(6, True, "1 bytes longer"), (4, False, "1 bytes short")])
def test_a_file_of_a_wrong_length_is_refused(length, more, message):
    response = _started(headers=[(b"content-length", b"5")])
    with pytest.raises(AppError, match=message):
        response.declare_length(length, more)

    assert State.HEAD_PENDING is response.state


def test_a_payload_is_not_copied():
    """Only a bytearray is copied, because the application could change it."""
    large = b"x" * 100_000
    assert _started().body({"body": large}, COMMON, must_close=False)[1] is large

    mutable = bytearray(b"abc")
    _, payload, _ = _started().body({"body": mutable}, COMMON, must_close=False)
    mutable[:] = b"xyz"
    assert payload == b"abc"


@pytest.mark.parametrize("body", ["text", None, 5, [b"a"]])
def test_a_body_is_bytes(body):
    with pytest.raises(AppError, match=f"is bytes, not {type(body).__name__}"):
        _started().body({"body": body}, COMMON, must_close=False)


def test_error_response_returns_a_head_and_a_body():
    """The connection closes after it. The body is empty for HEAD."""
    head = b"HTTP/1.1 413 %s\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 9\r\nconnection: close\r\n"
    got, body = error_response(413, "too much", COMMON)

    assert b"too much\n" == body
    assert got.endswith(COMMON + b"\r\n")
    assert head.partition(b"\r\n")[2] in got
    assert (got, b"") == error_response(413, "too much", COMMON, is_head=True)
