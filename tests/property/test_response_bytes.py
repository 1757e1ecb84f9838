"""h11 reads each valid response back: the same status, fields and body, and one framing.

Any other message is rejected, or the bytes so far are a beginning that h11 can read.
"""

import re
from dataclasses import dataclass
from typing import Any

import h11
from hypothesis import given
from hypothesis import strategies as st

from asgid.errors import AppError
from asgid.worker.http.response import State
from asgid.worker.http1.responder import Responder
from tests.responders import make_responder

COMMON = b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\nserver: asgid\r\n"
TOKEN = st.text("!#$%&'*+-.^_`|~0123456789abcxyzABCXYZ", min_size=1, max_size=12).map(str.encode)
VALUE = st.binary(max_size=20).map(
    lambda value: bytes(octet for octet in value if octet == 9 or (octet > 31 and octet != 127))
)
OURS = {b"content-length", b"transfer-encoding", b"keep-alive", b"connection", b"date", b"server"}
PLAIN = st.tuples(TOKEN.filter(lambda name: name.lower() not in OURS), VALUE)
BODIES = st.lists(st.binary(max_size=40), min_size=1, max_size=5)


@dataclass(frozen=True)
class Asked:
    """The properties of a request and its connection that concern the response."""

    is_head: bool
    minor: int
    keep_alive: bool
    must_close: bool

    def response(self) -> Responder:
        return make_responder(is_head=self.is_head, minor=self.minor, keep_alive=self.keep_alive)

    def reader(self) -> h11.Connection:
        reader = h11.Connection(our_role=h11.CLIENT)
        reader.send(
            h11.Request(
                method="HEAD" if self.is_head else "GET", target="/", headers=[("host", "a"), ("connection", "close")]
            )
        )
        reader.send(h11.EndOfMessage())
        return reader


ASKED = st.builds(Asked, st.booleans(), st.sampled_from([0, 1]), st.booleans(), st.booleans())


def read(asked: Asked, written: bytes) -> tuple[h11.Response, bytes, list[tuple[bytes, bytes]]]:
    """Return head, body and trailers. h11.RemoteProtocolError if the response is not whole."""
    reader = asked.reader()
    reader.receive_data(written)
    reader.receive_data(b"")
    head, body = None, b""
    while True:
        match event := reader.next_event():
            case h11.Response():
                head = event
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                assert head is not None
                assert (b"", True) == reader.trailing_data
                return head, body, list(event.headers)
            case _:
                raise AssertionError(f"not expected: {event}")


@given(
    asked=ASKED,
    status=st.one_of(st.sampled_from([200, 204, 205, 206, 304, 404, 500]), st.integers(200, 999)),
    headers=st.lists(PLAIN, max_size=6),
    bodies=BODIES,
    has_length=st.booleans(),
    close=st.booleans(),
    trailing=st.booleans(),
    is_wanted=st.booleans(),
)
def test_h11_reads_a_valid_response_back(asked, status, headers, bodies, has_length, close, trailing, is_wanted):
    """It has exactly one framing. The connection is kept only if the client can find the end of the body."""
    whole = b"".join(bodies)
    given_headers = [*headers, *([(b"Content-Length", b"%d" % len(whole))] if has_length else [])]
    given_headers += [(b"connection", b"close")] if close else []
    response = asked.response()
    response.start({"status": status, "headers": given_headers, "trailers": trailing})
    written = b""
    for index, body in enumerate(bodies):
        assert response.state is not State.COMPLETE
        message = {"body": body, "more_body": index < len(bodies) - 1}
        written += b"".join(response.body(message, COMMON, must_close=asked.must_close))
    if trailing:
        assert State.TRAILERS is response.state
        written += response.trailers({"headers": [(b"x-sum", b"1")]}, is_wanted=is_wanted)
    head, body, read_trailers = read(asked, written)
    names = [name for name, _ in head.headers]
    framings = [name for name in names if name in {b"content-length", b"transfer-encoding"}]
    is_bodiless = asked.is_head or status in {204, 205, 304}

    assert State.COMPLETE is response.state
    assert status == head.status_code
    assert (b"" if is_bodiless else whole) == body
    assert [(name.lower(), value.strip(b" \t")) for name, value in headers] == [
        (name, value) for name, value in head.headers if name not in OURS
    ]
    assert 1 == names.count(b"date") == names.count(b"server")
    assert len(framings) <= 1
    assert (trailing and is_wanted and b"transfer-encoding" in names) == ((b"x-sum", b"1") in read_trailers)
    assert response.keep_alive <= (asked.keep_alive and not asked.must_close and not close)
    assert response.keep_alive <= (is_bodiless or bool(framings))
    assert response.keep_alive == ((b"connection", b"close") not in list(head.headers))
    if asked.minor == 0:
        assert b"transfer-encoding" not in names
        assert response.keep_alive == ((b"connection", b"keep-alive") in list(head.headers))
    if status == 204:
        assert not framings


ANYTHING = st.one_of(
    st.binary(max_size=8), st.none(), st.text(max_size=4), st.integers(), st.sampled_from([b"5", b"a\r\nb: c"])
)
MESSAGE = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("http.response.start"), "status": st.one_of(st.just(200), st.integers(-1, 1200))},
        optional={
            "headers": st.lists(
                st.tuples(st.one_of(ANYTHING, st.sampled_from([b"content-length", b"connection", b"a"])), ANYTHING),
                max_size=3,
            ),
            "trailers": st.booleans(),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.just("http.response.trailers")},
        optional={
            "headers": st.lists(st.tuples(st.sampled_from([b"a", b"te"]), ANYTHING), max_size=2),
            "more_trailers": st.booleans(),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.just("http.response.early_hint")}, optional={"links": st.lists(ANYTHING, max_size=2)}
    ),
    st.fixed_dictionaries(
        {"type": st.just("http.response.body")}, optional={"body": ANYTHING, "more_body": st.booleans()}
    ),
)


@given(asked=ASKED, messages=st.lists(MESSAGE, max_size=6))
def test_any_message_is_rejected_or_readable(asked: Asked, messages: list[dict[str, Any]]) -> None:
    """Only AppError is raised; a complete response is whole, and nothing is written after it."""
    response = asked.response()
    written = b""
    for message in messages:
        try:
            if message["type"] == "http.response.start":
                response.start(message)
            elif message["type"] == "http.response.trailers":
                written += response.trailers(message, is_wanted=True)
            elif message["type"] == "http.response.early_hint":
                written += response.early_hint(message)
            else:
                written += b"".join(response.body(message, COMMON, must_close=asked.must_close))
        except AppError:
            break
    if response.state is State.COMPLETE:
        head, _, _ = read(asked, written)
        assert response.status == head.status_code
    elif response.state in (State.WAITING, State.HEAD_PENDING):
        assert not re.sub(rb"HTTP/1.1 103 Early Hints\r\n(link: .*\r\n)+\r\n", b"", written)
