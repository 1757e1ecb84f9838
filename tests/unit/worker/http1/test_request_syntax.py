"""Lines of a request head beside the table of cases: what is remembered of them, what a part of one already says."""

import pytest

from asgid.errors import ClientError
from asgid.worker.http1 import request_syntax


def test_hosts_that_never_come_again_do_not_fill_the_memory():
    """However many there are, and however long."""
    for number in range(3 * request_syntax._MAX_HOSTS):
        assert request_syntax.is_authority(b"host-%d.example" % number)
    long = b"a" * (request_syntax._MAX_HOST_BYTES + 1)

    assert request_syntax.is_authority(long)
    assert long not in request_syntax.VALID_HOSTS
    assert len(request_syntax.VALID_HOSTS) <= request_syntax._MAX_HOSTS


def test_a_bad_host_is_not_remembered():
    """It is refused however often it comes."""
    assert [False] * 3 == [request_syntax.is_authority(b"a b") for _ in range(3)]
    assert b"a b" not in request_syntax.VALID_HOSTS


@pytest.mark.parametrize("part", [b"G", b"GET", b"GET ", b"GET /", b"GET /a ", b"GET / HTTP/1.1", b"XYZ", b"GET / F"])
def test_the_beginning_of_a_line_is_waited_for(part):
    """As long as the rest can make a request line of it, or show what it is instead."""
    request_syntax.check_partial_request_line(part, 100)


@pytest.mark.parametrize(
    "part", [b" ", b" G", b"G\x00", b"\x16", b"GET  ", b"GET / HTTP/1.1 ", b"GET / HTTP/1.10", b"\xc3"]
)
def test_the_beginning_of_no_line_is_refused_at_once(part):
    """Nobody waits for the end of what is no HTTP."""
    with pytest.raises(ClientError) as caught:
        request_syntax.check_partial_request_line(part, 100)

    assert (400, "malformed") == (caught.value.status, caught.value.kind)


@pytest.mark.parametrize(
    "judge", [request_syntax.parse_request_line, lambda part: request_syntax.check_partial_request_line(part, 100)]
)
@pytest.mark.parametrize("hello", [b"\x16\x03\x01\x02\x00\x01\x00", b"\x16\x03\x03 a b"])
def test_who_speaks_tls_is_told_that_nobody_else_does(hello, judge):
    """The usual mistake of a proxy's settings, wherever its random bytes seem to end a line."""
    with pytest.raises(ClientError, match="this is TLS"):
        judge(hello)


@pytest.mark.parametrize(
    ("line", "clean"), [(b"A:b", b"A: b"), (b"A: \t b \t", b"A: b"), (b"A:", b"A: "), (b"a:: ", b"a: :")]
)
def test_a_field_line_loses_the_white_space_around_its_value(line, clean):
    """And nothing else."""
    assert clean == request_syntax.parse_field_line(line)
