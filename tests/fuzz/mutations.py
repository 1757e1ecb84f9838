"""Random changes of streams: bytes are flipped, inserted, doubled, moved or left out, and two streams are spliced."""

import itertools
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

#: Bytes that matter to some HTTP parser, and words that decide the end of a body.
INTERESTING = (
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\0",
        b" ",
        b"\t",
        b"\x0b",
        b"\x0c",
        b"\x7f",
        b"\x80",
        b"\x85",
        b"\xa0",
        b"\xff",
    ),
    *(b":", b",", b";", b"=", b'"', b"/", b"?", b"#", b"%", b"@", b"*", b"+", b"-", b"_", b"0", b"1", b"9", b"f", b"x"),
    *(
        b"HTTP/1.0",
        b"HTTP/1.1",
        b"HEAD",
        b"CONNECT",
        b"0\r\n\r\n",
        b"1\r\na\r\n",
        b"Host: a\r\n",
        b"Connection: close\r\n",
    ),
    *(b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: upgrade\r\nUpgrade: a\r\n"),
    b"Expect: 100-continue\r\n",
)


def _turned(stream: bytearray, at: int, chance: Random, _: Sequence[bytes]) -> None:
    if at < len(stream):
        stream[at] ^= 1 << chance.randrange(8)


def _put_in(stream: bytearray, at: int, chance: Random, interesting: Sequence[bytes]) -> None:
    stream[at:at] = chance.choice(interesting)


def _put_over(stream: bytearray, at: int, chance: Random, interesting: Sequence[bytes]) -> None:
    stream[at : at + 1] = chance.choice(interesting)


def _doubled(stream: bytearray, at: int, chance: Random, _: Sequence[bytes]) -> None:
    stream[at:at] = stream[at : at + chance.randrange(1, 40)]


def _left_out(stream: bytearray, at: int, chance: Random, _: Sequence[bytes]) -> None:
    del stream[at : at + chance.randrange(1, 12)]


def _moved(stream: bytearray, at: int, chance: Random, _: Sequence[bytes]) -> None:
    block = stream[at : at + chance.randrange(1, 40)]
    del stream[at : at + len(block)]
    to = chance.randrange(len(stream) + 1)
    stream[to:to] = block


_Way: TypeAlias = Callable[[bytearray, int, Random, Sequence[bytes]], None]
_WAYS: tuple[_Way, ...] = (_turned, _put_in, _put_over, _doubled, _left_out, _moved)


def mutated(streams: Sequence[bytes], chance: Random, interesting: Sequence[bytes] = INTERESTING) -> bytes:
    """Return one of the streams with up to four changes, or the beginning of one and the end of another."""
    stream = bytearray(chance.choice(streams))
    if chance.randrange(5) == 0:
        other = chance.choice(streams)
        stream[chance.randrange(len(stream) + 1) :] = other[chance.randrange(len(other) + 1) :]
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        chance.choice(_WAYS)(stream, chance.randrange(len(stream) + 1), chance, interesting)
    return bytes(stream)


def pieces(stream: bytes, chance: Random) -> list[bytes]:
    """Return a stream cut at up to five places."""
    places = sorted({chance.randrange(len(stream) + 1) for _ in range(chance.randrange(1, 6))} | {0, len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(places) if start < end]
