"""Random pieces of requests over a real socket: each response is HTTP, and nothing is left or logged as an error."""

import asyncio
import re

import pytest
import uvloop
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.worker.apps import mirror, mirror_later
from tests.worker.client import request
from tests.worker.worker import Worker

# Without shrinking: a failing case waits for its timeout, and a thousand of them would take an hour.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)

CHUNKED = "Transfer-Encoding: chunked"
# Whole lines: random bytes are hardly ever a request.
PIECES = st.sampled_from(
    [
        request("GET", "/a"),
        request("HEAD", "/a"),
        request("POST", "/b", body=b"hello"),
        request("POST", "/c", CHUNKED) + b"3\r\nabc\r\n0\r\n\r\n",
        request("POST", "/d", CHUNKED),
        request("POST", "/e", "Content-Length: 5"),
        request("POST", "/f", "Expect: 100-continue", "Content-Length: 5"),
        request("POST", "/g", "Connection: upgrade", "Upgrade: x", body=b"hello"),
        request("POST", "/h", "Connection: upgrade", "Upgrade: x", CHUNKED),
        request("GET", "/i", "Connection: close"),
        request("CONNECT", "a:1"),
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"Content-Length: 2\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"3;x=y\r\nabc\r\n",
        b"0\r\n",
        b"hello",
        b"\n",
        b"\0",
        b"\xff",
        b":",
        b" ",
    ]
)
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z -]+\r\n")


@pytest.mark.parametrize("app", [mirror, mirror_later], ids=["an app that does not wait", "an app that waits"])
@settings(max_examples=50, phases=_PHASES, deadline=None)
@given(pieces=st.lists(PIECES, max_size=8), cut=st.integers(0, 400))
def test_no_bytes_of_a_client_break_a_worker(app, pieces, cut):
    """The client sends in one piece or in two and half-closes; the harness checks that nothing is left."""
    sent = b"".join(pieces)

    async def story() -> None:
        async with Worker(app, limits={"body": "1KiB", "header_count": 10}) as worker:
            client = await worker.connect(*(piece for piece in (sent[:cut], sent[cut:]) if piece))
            client.half_close()
            written = await client.rest()
            statuses = {int(status) for status in _STATUS.findall(written)}

            assert statuses <= {100, 200, 400, 413, 431, 501, 505}
            assert not written or written.startswith(b"HTTP/1.1 ")
            # Half a body is a disconnect; the applications accept every other message.
            assert all(
                "AssertionError: {'type': 'http.disconnect'}" in str(line.fields["stack"])
                for line in worker.lines
                if line.event != "request refused"
            )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())
