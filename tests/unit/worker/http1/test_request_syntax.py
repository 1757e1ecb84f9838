"""Lines of a request head, beside the table of request cases: cached hosts and unfinished lines."""

import pytest

from asgid.errors import ClientError
from asgid.worker.http1 import request_syntax


def test_the_cache_of_valid_hosts_is_bounded():
    for number in range(3 * request_syntax._MAX_HOSTS):
        assert request_syntax.is_authority(b"host-%d.example" % number)
    long = b"a" * (request_syntax._MAX_HOST_BYTES + 1)

    assert request_syntax.is_authority(long)
    assert long not in request_syntax.VALID_HOSTS
    assert len(request_syntax.VALID_HOSTS) <= request_syntax._MAX_HOSTS


def test_an_invalid_host_is_not_cached():
    assert [False] * 3 == [request_syntax.is_authority(b"a b") for _ in range(3)]
    assert b"a b" not in request_syntax.VALID_HOSTS


@pytest.mark.parametrize("part", [b"G", b"GET", b"GET ", b"GET /", b"GET /a ", b"GET / HTTP/1.1", b"XYZ", b"GET / F"])
def test_the_beginning_of_a_request_line_is_accepted(part):
    request_syntax.check_partial_request_line(part, 100)


@pytest.mark.parametrize(
    "part", [b" ", b" G", b"G\x00", b"\x16", b"GET  ", b"GET / HTTP/1.1 ", b"GET / HTTP/1.10", b"\xc3"]
)
def test_bytes_that_begin_no_request_line_are_rejected_at_once(part):
    with pytest.raises(ClientError) as caught:
        request_syntax.check_partial_request_line(part, 100)

    assert (400, "malformed") == (caught.value.status, caught.value.kind)


@pytest.mark.parametrize(
    "check", [request_syntax.parse_request_line, lambda part: request_syntax.check_partial_request_line(part, 100)]
)
@pytest.mark.parametrize("hello", [b"\x16\x03\x01\x02\x00\x01\x00", b"\x16\x03\x03 a b"])
def test_a_tls_handshake_gets_an_error_that_names_the_fix(hello, check):
    """A common mistake in the settings of a proxy. Its random bytes may look like the end of a line."""
    with pytest.raises(ClientError, match="a TLS handshake was sent to a plain HTTP port"):
        check(hello)


@pytest.mark.parametrize(
    ("line", "clean"), [(b"A:b", b"A: b"), (b"A: \t b \t", b"A: b"), (b"A:", b"A: "), (b"a:: ", b"a: :")]
)
def test_parse_field_line_strips_the_white_space_around_the_value(line, clean):
    assert clean == request_syntax.parse_field_line(line)
