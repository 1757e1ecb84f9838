"""Sizes of chunks, line by line; the table of request cases has whole streams."""

import pytest

from asgid.config.tables import Limits
from asgid.errors import ClientError
from asgid.worker.http1.chunked import ChunkedSizes


def sizes(header_size: int = 100, body: int = 1000) -> ChunkedSizes:
    return ChunkedSizes(Limits(header_size=header_size, body=body))


def rejection(parser: ChunkedSizes, line: bytes) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        parser.parse(line)
    return caught.value.status, caught.value.kind


@pytest.mark.parametrize(
    ("line", "size"),
    [(b"0", 0), (b"a", 10), (b"A", 10), (b"0000000000000010", 16), (b"5;a", 5), (b'5; a = "b;\\"c" ;d=e', 5)],
)
def test_a_size_is_hexadecimal_and_extensions_are_ignored(line, size):
    """RFC 9112 sections 7.1 and 7.1.1."""
    assert size == sizes().parse(line)


@pytest.mark.parametrize("line", [b"", b"0x5", b"5_0", b"+5", b"5 ", b"5;", b"00000000000000005", b"8" + b"0" * 15])
def test_an_ambiguous_size_is_rejected(line):
    """Other servers could read another size, and so find another end of the body."""
    assert (400, "framing") == rejection(sizes(), line)


def test_the_limit_of_a_body_counts_all_its_chunks():
    parser = sizes(body=100)
    for _ in range(10):
        parser.parse(b"a")

    assert (413, "body_size") == rejection(parser, b"1")


def test_a_size_line_may_have_overhead_in_proportion_to_its_data():
    """16 bytes for each chunk, and two for each byte of data."""
    parser = sizes(header_size=50, body=100_000)
    for _ in range(1000):
        parser.parse(b"a;" + b"x" * 32)


@pytest.mark.parametrize(("line", "number"), [(b"1;" + b"x" * 20, 5), (b"a;" + b"x" * 44, 1)])
def test_overhead_beyond_that_counts_towards_header_size(line, number):
    """It would have no limit otherwise. Later data makes up for earlier overhead, but not the reverse."""
    parser = sizes(header_size=50, body=10_000)
    parser.parse(b"3e8")
    for _ in range(number):
        parser.parse(line)
    assert (431, "header_size") == rejection(parser, line)

    other = sizes(header_size=50)
    for _ in range(10):
        other.parse(line)
        other.parse(b"14")


@pytest.mark.parametrize("part", [b"", b"5", b"5;", b'5;a="b', b"0" * 16])
def test_the_beginning_of_a_size_line_is_accepted(part):
    sizes().check_partial(part, 0)


@pytest.mark.parametrize(
    ("part", "error"),
    [
        (b"x", (400, "framing")),
        (b"0" * 17, (400, "framing")),
        (b"5;a\x00", (400, "framing")),
        (b"5;" + b"a" * 99, (431, "header_size")),
        (b"5;" + b"a" * 99 + b"\x00", (431, "header_size")),  # the limit is reached before the NUL
        (b"5;\x00" + b"a" * 99, (400, "framing")),
    ],
)
def test_bytes_that_begin_no_size_line_are_rejected_at_once(part, error):
    """The first invalid byte decides about the error."""
    with pytest.raises(ClientError) as caught:
        sizes().check_partial(part, 0)

    assert error == (caught.value.status, caught.value.kind)
