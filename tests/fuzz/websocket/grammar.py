"""Hypothesis strategies for streams: messages in frames of RFC 6455, with occasional faults."""

import itertools

from hypothesis import strategies as st

from tests.fuzz.websocket.corpus import (
    BINARY,
    CONT,
    FIN,
    INTERESTING,
    MAX_MESSAGE,
    PING,
    PONG,
    RSV1,
    TEXT,
    close,
    deflated,
    frame,
)

_MASKS = st.one_of(st.just(b"\0\0\0\0"), st.binary(min_size=4, max_size=4))
_SIZES = st.sampled_from([0, 1, 2, 5, 124, 125, 126, 127, MAX_MESSAGE - 1, MAX_MESSAGE, MAX_MESSAGE + 1])
_TEXTS = st.one_of(
    st.text(max_size=20).map(str.encode),
    _SIZES.map(lambda size: b"x" * size),
    st.binary(max_size=6),  # mostly invalid text
)
_CONTENTS = st.one_of(st.binary(max_size=20), _SIZES.map(lambda size: b"\xfe" * size))
_CONTROLS = st.one_of(
    st.builds(frame, st.sampled_from([FIN | PING, FIN | PING, FIN | PONG]), st.binary(max_size=6), _MASKS),
    st.builds(
        close,
        st.one_of(st.none(), st.sampled_from([1000, 1001, 1004, 1005, 1014, 1015, 2999, 3000, 4999, 5000])),
        st.sampled_from([b"", b"bye", "ü".encode(), b"\xff"]),
    ),
)
#: One in eight.
_SELDOM = st.integers(0, 7).map(lambda number: number == 0)


@st.composite
def _messages(draw: st.DrawFn, *, is_deflated: bool) -> bytes:
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    content = draw(_TEXTS if opcode == TEXT else _CONTENTS)
    first = opcode
    if is_deflated and draw(st.booleans()):
        content, first = deflated(content, draw(st.sampled_from([2, 2, 4]))), opcode | RSV1  # Z_SYNC_FLUSH, Z_FINISH
    if draw(_SELDOM):
        first |= draw(st.sampled_from([RSV1, 0x20, 0x10]))
    places = sorted({0, len(content), *draw(st.lists(st.integers(0, len(content)), max_size=3))})
    parts = [content[start:end] for start, end in itertools.pairwise(places)] or [b""]
    stream = b""
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        head = (first if number == 0 else CONT) | (FIN if is_last != draw(_SELDOM) else 0)
        stream += frame(head, part, b"" if draw(_SELDOM) and draw(_SELDOM) else draw(_MASKS))
        if not is_last and draw(_SELDOM):
            stream += draw(_CONTROLS)
    return stream


@st.composite
def streams(draw: st.DrawFn, *, is_deflated: bool) -> bytes:
    """Up to six messages and control frames; one stream in four has a fault."""
    parts = st.one_of(_messages(is_deflated=is_deflated), _messages(is_deflated=is_deflated), _CONTROLS)
    stream = b"".join(draw(st.lists(parts, max_size=6)))
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(stream)))
        stream = stream[:at] + draw(st.sampled_from(INTERESTING)) + stream[at + draw(st.integers(0, 1)) :]
    return stream


@st.composite
def cut_streams(draw: st.DrawFn, *, is_deflated: bool) -> tuple[bytes, list[bytes]]:
    """A stream and its pieces."""
    stream = draw(streams(is_deflated=is_deflated))
    places = sorted({0, len(stream), *draw(st.lists(st.integers(0, len(stream)), max_size=5))})
    return stream, [stream[start:end] for start, end in itertools.pairwise(places)]
