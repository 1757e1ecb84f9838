"""Frames of a client without a connection: each stream in one piece, and cut at each offset."""

import zlib
from collections.abc import Sequence
from functools import partial
from unittest.mock import patch

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from asgid.worker.websocket import decoder, deflate
from asgid.worker.websocket.decoder import Decoder, DecoderEvent
from asgid.worker.websocket.deflate import DeflateParameters, Inflater
from asgid.worker.websocket.frames import RSV1, FrameError

MAX_MESSAGE = 1000
CONT, TEXT, BINARY, CLOSE, PING, PONG = Opcode


def negotiated(offer: str) -> DeflateParameters:
    parameters = deflate.negotiate(offer)
    assert parameters
    return parameters


_PARAMETERS = negotiated("permessage-deflate; client_max_window_bits")


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """Return a client's frame, as `websockets` writes it. Its mask is fixed: the bytes name a case, in each process."""
    with patch("websockets.frames.secrets.token_bytes", return_value=b"\xa1\x5c\x03\xf7"):
        serialized = Frame(opcode, payload, fin).serialize(mask=True)  # type: ignore[arg-type] # an int is accepted
    return bytes([serialized[0] | RSV1]) + serialized[1:] if rsv1 else serialized


def decode(
    pieces: Sequence[bytes], parameters: DeflateParameters | None = None, max_message: int = MAX_MESSAGE
) -> list[DecoderEvent]:
    """Return the events; the last one is a pair of close code and reason if the frames break the protocol."""
    stream_decoder = Decoder(max_message, Inflater(parameters) if parameters else None)
    events: list[DecoderEvent] = []
    for piece in pieces:
        stream_decoder.feed(piece)
        while stream_decoder.has_rest:
            try:
                event = stream_decoder.step()
            except FrameError as error:
                return [*events, (error.code, error.reason)]
            if event is not None:
                events.append(event)
    return events


def in_every_cut(
    stream: bytes, parameters: DeflateParameters | None = None, max_message: int = MAX_MESSAGE
) -> list[DecoderEvent]:
    """Return the events of a stream; they do not depend on its cuts."""
    whole = decode([stream], parameters, max_message)
    assert whole == decode([stream[at : at + 1] for at in range(len(stream))], parameters, max_message)
    for at in range(1, len(stream)):
        assert whole == decode([stream[:at], stream[at:]], parameters, max_message), at
    return whole


final, middle = partial(frame, fin=True), partial(frame, fin=False)
_BIG = b"x" * MAX_MESSAGE


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"", []),
        (final(TEXT, b"hello"), [(TEXT, "hello")]),
        (final(TEXT), [(TEXT, "")]),
        (final(TEXT, "ü€😀".encode()), [(TEXT, "ü€😀")]),
        (final(BINARY, bytes(range(256))), [(BINARY, bytes(range(256)))]),
        (final(BINARY, _BIG), [(BINARY, _BIG)]),
        (final(TEXT, b"a") + final(BINARY, b"b"), [(TEXT, "a"), (BINARY, b"b")]),
        (middle(TEXT, b"a") + middle(CONT) + final(CONT, b"b"), [(TEXT, "ab")]),
        (middle(TEXT, b"\xe2\x82") + final(CONT, b"\xac"), [(TEXT, "€")]),
        (middle(BINARY, b"\xe2") + final(PING, b"p") + final(CONT, b"\x82"), [(PING, b"p"), (BINARY, b"\xe2\x82")]),
        (middle(BINARY, _BIG) + final(PING, b"y" * 125) + final(CONT), [(PING, b"y" * 125), (BINARY, _BIG)]),
        (final(PING) + final(PONG, b"a"), [(PING, b""), (PONG, b"a")]),
        (final(CLOSE, b"\x03\xe8bye"), [(CLOSE, b"\x03\xe8bye")]),
        (middle(TEXT, b"a") + final(CLOSE), [(CLOSE, b"")]),
    ],
)
def test_frames_are_decoded_to_messages_and_control_frames(stream, events):
    assert events == in_every_cut(stream)


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (b"\x91\x80", 1002),  # a reserved bit
        (b"\xa1\x80", 1002),
        (b"\xc1\x80", 1002),  # compression without a negotiation
        (b"\x83\x80", 1002),  # reserved opcodes
        (b"\x8b\x80", 1002),
        (b"\x81\x00", 1002),  # no mask
        (b"\x09\x80", 1002),  # a fragment of a ping
        (b"\x89\xfe", 1002),  # a ping of 126 bytes and more
        (b"\x88\xff", 1002),  # and a close
        (b"\x80\x80", 1002),  # a fragment of nothing
        (middle(TEXT, b"a") + b"\x81\x80", 1002),  # a message within another
        (b"\x81\xfe\x00\x7d", 1002),  # lengths that are not in their shortest form
        (b"\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff", 1002),
        (b"\x82\xfe\x03\xe9", 1009),
        (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1009),
        (middle(BINARY, b"x" * 900) + b"\x80\xe5", 1009),  # 101 bytes
        (b"\x81\xfd\0\0\0\0\xff", 1007),
        (b"\x01\xfd\0\0\0\0\xed\xa0\x80", 1007),  # a surrogate
        (b"\x81\xfd\0\0\0\0\xf4\x90", 1007),  # above U+10FFFF
    ],
)
def test_a_fault_is_found_at_its_byte(stream, code):
    """In the head, or at the byte that is not UTF-8; the bytes before it are valid."""
    assert code == in_every_cut(stream)[-1][0]
    assert all(code != event[0] for event in decode([stream[:-1]]))


@pytest.mark.parametrize("payload", [b"\xc3", b"a\xf0\x9f\x98"])
def test_a_text_that_ends_within_a_character_is_invalid(payload):
    expected = [(1007, "invalid payload data")]

    assert expected == in_every_cut(final(TEXT, payload))
    assert expected == in_every_cut(middle(TEXT, payload) + final(CONT))


def _compressed(*messages: bytes, mode: int = zlib.Z_SYNC_FLUSH) -> list[bytes]:
    """Return the payloads of messages that share one context."""
    compressor = zlib.compressobj(wbits=-12)
    return [(compressor.compress(message) + compressor.flush(mode)).removesuffix(deflate.TAIL) for message in messages]


_HELLO, _AGAIN, _THIRD = _compressed(b"hello", b"hello", b"hello")
_LAST = _compressed(b"hello", mode=zlib.Z_FINISH)[0]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (frame(TEXT, _HELLO, rsv1=True) + frame(TEXT, _AGAIN, rsv1=True), [(TEXT, "hello")] * 2),
        (frame(TEXT, _HELLO, rsv1=True) + final(TEXT, b"plain"), [(TEXT, "hello"), (TEXT, "plain")]),
        (frame(BINARY, b"", rsv1=True), [(BINARY, b"")]),
        (frame(BINARY, b"\0", rsv1=True), [(BINARY, b"")]),
        (frame(TEXT, _HELLO[:3], fin=False, rsv1=True) + final(CONT, _HELLO[3:]), [(TEXT, "hello")]),
        (frame(TEXT, _LAST, rsv1=True) * 2, [(TEXT, "hello")] * 2),
        (
            frame(TEXT, _LAST * 3 + _HELLO, rsv1=True) + frame(TEXT, _AGAIN, rsv1=True),
            [(TEXT, "hello" * 4), (TEXT, "hello")],
        ),
        (frame(BINARY, _compressed(_BIG)[0], rsv1=True), [(BINARY, _BIG)]),
        (frame(BINARY, _compressed(_BIG + b"x")[0], rsv1=True), [(1009, "a message exceeds 1000 bytes")]),
        (frame(BINARY, _compressed(b"\0" * 1_000_000)[0], rsv1=True), [(1009, "a message exceeds 1000 bytes")]),
        (frame(TEXT, _compressed(b"a" * 990 + b"\xff" * 20)[0], rsv1=True), [(1007, "invalid payload data")]),
        (frame(TEXT, b"\xff\xff", rsv1=True), [(1007, "invalid payload data")]),
        (frame(TEXT, _HELLO[:-1] + b"\xff" * 9, rsv1=True), [(1007, "invalid payload data")]),
        (frame(PING, _HELLO, rsv1=True), [(1002, "a reserved bit is set")]),
        (frame(TEXT, _HELLO, fin=False, rsv1=True) + frame(CONT, rsv1=True), [(1002, "a reserved bit is set")]),
    ],
)
def test_compressed_messages_are_decoded_up_to_the_limit(stream, events):
    """The cuts of the stream do not change which of two faults is found first."""
    assert events == in_every_cut(stream, _PARAMETERS)


def test_client_no_context_takeover_resets_the_context():
    """Each message is then independent of the others."""
    parameters = negotiated("permessage-deflate; client_no_context_takeover")
    first, again = frame(TEXT, _HELLO, rsv1=True), frame(TEXT, _AGAIN, rsv1=True)  # the second refers to the first

    assert [(TEXT, "hello")] * 2 == in_every_cut(first * 2, parameters)
    assert [(TEXT, "hello"), (1007, "invalid payload data")] == in_every_cut(first + again, parameters)


@pytest.mark.parametrize("size", [1, 4095, 4096, 65_535, 65_536, 65_537, 200_000])
def test_a_step_inflates_at_most_step_bytes(size, monkeypatch):
    """Also if the message ends at that size."""
    content = b"\0" * size
    stream_decoder = Decoder(1 << 20, Inflater(_PARAMETERS))
    stream_decoder.feed(frame(BINARY, _compressed(content)[0], rsv1=True) + final(TEXT, b"next"))
    sizes: list[int] = []
    inflate = Inflater.inflate

    def measured(self: Inflater, max_bytes: int) -> bytes:
        sizes.append(len(inflated := inflate(self, max_bytes)))
        return inflated

    monkeypatch.setattr(Inflater, "inflate", measured)
    events = []
    while stream_decoder.has_rest:
        if event := stream_decoder.step():
            events.append(event)

    assert [(BINARY, content), (TEXT, "next")] == events
    assert size == sum(sizes)
    assert max(sizes) <= decoder.STEP_BYTES


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 1_000_000])
def test_each_form_of_a_length_is_decoded(size):
    assert [(BINARY, b"x" * size)] == decode([frame(BINARY, b"x" * size)], max_message=1_000_000)


def test_many_fragments_are_joined():
    stream = middle(TEXT, b"a") + middle(CONT) * 100_000 + middle(CONT, b"b") * 900 + final(CONT, b"c")

    assert [(TEXT, "a" + "b" * 900 + "c")] == decode([stream])


@pytest.mark.parametrize("resets", [False, True])
def test_messages_of_websockets_are_decoded(resets):
    parameters = negotiated("permessage-deflate; client_max_window_bits=10" + "; client_no_context_takeover" * resets)
    client = PerMessageDeflate(False, resets, 12, 10)
    messages = [b"long " * 100, b"short", b"long " * 100, b"", bytes(range(250))]
    stream = b""
    for message in messages:
        for part in (Frame(BINARY, message[:50], fin=False), Frame(CONT, message[50:])):
            stream += part.serialize(mask=True, extensions=[client])
        stream += Frame(BINARY, message).serialize(mask=True, extensions=[client])

    assert [(BINARY, message) for message in messages for _ in range(2)] == in_every_cut(stream, parameters)
