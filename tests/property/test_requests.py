"""Each parsed request is parsed by h11 in the same way, whatever its cuts."""

import os
from typing import Any

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from asgid import config
from asgid.errors import ClientError
from asgid.worker.http1.parser import RequestParser, StopParsing

_EXAMPLES = 20_000 if os.environ.get("ASGID_HYPOTHESIS") == "fuzz" else 500
LIMITS = config.parse('app.target = "a:b"\nlimits.header_size = "1KiB"\nlimits.request_line = "1KiB"', "f.toml").limits

# Pieces of requests: random bytes are hardly ever one.
WORDS = st.sampled_from(
    [
        *(
            b"GET",
            b"POST",
            b"OPTIONS",
            b"get",
            b"/",
            b"/a?b",
            b"*",
            b"http://b/c",
            b"HTTP/1.1",
            b"HTTP/1.0",
            b"HTTP/2.0",
        ),
        *(b" ", b" ", b"\t", b"\r\n", b"\r\n", b"\n", b"\r", b":", b": ", b",", b";", b"\x00", b"\xff", b"\x0b"),
        *(b"Host", b"a", b"a:80", b"[::1]", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect"),
        *(b"chunked", b"gzip", b"close", b"keep-alive", b"100-continue", b"0", b"1", b"5", b"0\r\n\r\n", b"1\r\nx\r\n"),
    ]
)
LINES = st.sampled_from(
    [
        *(b"Host: a", b"Host: a:80", b"A: b", b"A:b ", b"A:\t", b"Content-Length: 5", b"Content-Length: 0"),
        *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Connection: close", b"X", b" y: z"),
        *(b"Connection: keep-alive, upgrade", b"Upgrade: x", b"Expect: 100-continue", b"Content-Length:  5 "),
    ]
)
STARTS = st.sampled_from(
    [
        *(b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"GET / HTTP/1.0"),
        *(b"OPTIONS * HTTP/1.1", b"PUT http://b/ HTTP/1.1"),
    ]
)
HEADS = st.builds(
    lambda start, lines, odd, at: b"\r\n".join([start, *lines[:at], *odd, *lines[at:], b"", b""]),
    STARTS,
    st.lists(LINES, max_size=4).map(lambda lines: [b"Host: a", *lines]),
    st.lists(st.lists(WORDS, max_size=4).map(b"".join), max_size=1),
    st.integers(0, 4),
)
BODIES = st.lists(
    st.sampled_from([b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"5;a=b\r\nhello\r\n"]),
    max_size=3,
)
SENT = st.one_of(
    st.lists(st.builds(lambda head, body: head + b"".join(body), HEADS, BODIES), min_size=1, max_size=3).map(b"".join),
    st.lists(WORDS, max_size=20).map(b"".join),
)


class Heard:
    """A parser's results: requests with their bodies, and the rejection at their end."""

    def __init__(self) -> None:
        self.is_deaf = False
        self.requests: list[tuple[Any, ...]] = []
        self.body: list[bytes] = []
        self.refusal: tuple[int, str] | None = None

    def request_began(self, *said):
        self.requests.append(said)
        self.body = []

    def body_came(self, chunk):
        self.body.append(chunk)

    def request_ended(self):
        self.requests[-1] += (b"".join(self.body),)
        self.is_deaf = not self.requests[-1][4]  # it is not kept
        if self.is_deaf:
            raise StopParsing


def heard(pieces: list[bytes]) -> Heard:
    hearer = Heard()
    reader = RequestParser(hearer, LIMITS)
    try:
        for piece in pieces:
            if not hearer.is_deaf:
                reader.feed(piece)
    except ClientError as error:
        hearer.refusal = (error.status, error.kind)
    return hearer


@settings(max_examples=_EXAMPLES, deadline=None)
@given(sent=SENT, cuts=st.lists(st.integers(1, 200), max_size=4))
def test_the_requests_do_not_depend_on_the_cuts(sent, cuts):
    """Whole, in single bytes or in some pieces: the same requests, and the same rejection."""
    places = sorted({cut for cut in cuts if cut < len(sent)})
    some = [sent[begin:end] for begin, end in zip([0, *places], [*places, len(sent)], strict=True)]
    whole = heard([sent])

    for pieces in (some, [sent[at : at + 1] for at in range(len(sent))]):
        other = heard(pieces)
        assert whole.refusal == other.refusal
        assert whole.requests == other.requests


@settings(max_examples=_EXAMPLES, deadline=None)
@given(sent=SENT)
def test_h11_reads_the_same_requests(sent):
    ours = heard([sent])
    theirs = h11.Connection(our_role=h11.SERVER)
    theirs.receive_data(sent)
    for request in ours.requests:
        method, target, minor, headers, _, _, *body = request
        try:
            event = theirs.next_event()
        except h11.RemoteProtocolError as error:
            if "no request line received" in str(error):  # after an empty line, which a server may ignore
                return
            raise

        assert isinstance(event, h11.Request)
        assert (method.encode(), target, b"1.%d" % minor) == (event.method, event.target, event.http_version)
        if target[:1] != b"h":  # else the target replaces Host
            assert headers == [(name, value.rstrip()) for name, value in event.headers]
        if not body:  # it has not arrived, or was rejected
            return
        data = b""
        while isinstance(event := theirs.next_event(), h11.Data):
            data += event.data
        assert [data] == body
        assert isinstance(event, h11.EndOfMessage)
        if theirs.their_state is not h11.DONE:
            return
        theirs.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        theirs.send(h11.EndOfMessage())
        if theirs.our_state is not h11.DONE:
            return
        theirs.start_next_cycle()
