"""The sizes of chunks, line by line: what is one, what is refused at which byte, and what a body may say beside itself.

How a stream with chunks is read stands in the table of requests.
"""

import pytest

from asgid.config import Limits
from asgid.errors import ClientError
from asgid.worker.http1.chunked import ChunkedSizes


def sizes(header_size: int = 100, body: int = 1000) -> ChunkedSizes:
    return ChunkedSizes(Limits(header_size=header_size, body=body))


def refusal(found: ChunkedSizes, line: bytes) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        found.parse(line)
    return caught.value.status, caught.value.kind


@pytest.mark.parametrize(
    ("line", "size"),
    [(b"0", 0), (b"a", 10), (b"A", 10), (b"0000000000000010", 16), (b"5;a", 5), (b'5; a = "b;\\"c" ;d=e', 5)],
)
def test_a_size_is_hexadecimal_and_extensions_say_nothing(line, size):
    """RFC 9112 sections 7.1 and 7.1.1."""
    assert size == sizes().parse(line)


@pytest.mark.parametrize("line", [b"", b"0x5", b"5_0", b"+5", b"5 ", b"5;", b"00000000000000005", b"8" + b"0" * 15])
def test_what_others_could_read_as_another_size_is_refused(line):
    """Where a body ends must not be a matter of opinion."""
    assert (400, "framing") == refusal(sizes(), line)


def test_the_chunks_of_one_body_share_its_limit():
    """The next body has its own."""
    found = sizes(body=100)
    for _ in range(10):
        found.parse(b"a")
    assert (413, "body_size") == refusal(found, b"1")

    found.reset()
    assert 100 == found.parse(b"64")


def test_lines_may_say_what_their_data_account_for():
    """16 bytes for each chunk, and two for each byte of it."""
    found = sizes(header_size=50, body=100_000)
    for _ in range(1000):
        found.parse(b"a;" + b"x" * 32)


@pytest.mark.parametrize(("line", "number"), [(b"1;" + b"x" * 20, 5), (b"a;" + b"x" * 44, 1)])
def test_beyond_that_all_lines_of_a_body_together_are_a_header_section(line, number):
    """Else it could be as long as one likes; data that come later make good for it, and none do so in advance."""
    found = sizes(header_size=50, body=10_000)
    found.parse(b"3e8")
    for _ in range(number):
        found.parse(line)
    assert (431, "header_size") == refusal(found, line)

    again = sizes(header_size=50)
    for _ in range(10):
        again.parse(line)
        again.parse(b"14")


@pytest.mark.parametrize("part", [b"", b"5", b"5;", b'5;a="b', b"0" * 16])
def test_the_beginning_of_a_size_is_waited_for(part):
    """As long as the rest can make a line of it."""
    sizes().check_partial(part, 0)


@pytest.mark.parametrize(
    ("part", "refused"),
    [
        (b"x", (400, "framing")),
        (b"0" * 17, (400, "framing")),
        (b"5;a\x00", (400, "framing")),
        (b"5;" + b"a" * 99, (431, "header_size")),
        (b"5;" + b"a" * 99 + b"\x00", (431, "header_size")),  # by the byte that came first
        (b"5;\x00" + b"a" * 99, (400, "framing")),
    ],
)
def test_the_beginning_of_no_size_is_refused_at_once(part, refused):
    """By the first byte that makes it so."""
    with pytest.raises(ClientError) as caught:
        sizes().check_partial(part, 0)

    assert refused == (caught.value.status, caught.value.kind)
