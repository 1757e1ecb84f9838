"""Frames of the server, read by another library; close frames of a client."""

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, Protocol

from asgid.worker.websocket.frames import (
    CLOSE_CODES,
    WHOLE_BINARY,
    WHOLE_TEXT,
    FrameError,
    close_payload,
    frame_head,
    read_close,
)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 1_000_000])
@pytest.mark.parametrize(("first", "opcode"), [(WHOLE_TEXT, Opcode.TEXT), (WHOLE_BINARY, Opcode.BINARY)])
def test_a_frame_equals_that_of_websockets(size, first, opcode):
    payload = b"x" * size
    frame = frame_head(first, size) + payload
    client = Protocol(CLIENT, max_size=None)
    client.receive_data(frame)

    assert [Frame(opcode, payload)] == client.events_received()
    assert frame == Frame(opcode, payload).serialize(mask=False)


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
@pytest.mark.parametrize("reason", ["", "tschüß", "x" * 123])
def test_read_close_returns_the_code_and_the_reason(code, reason):
    assert (code, reason) == read_close(close_payload(code, reason))


def test_read_close_returns_1005_for_an_empty_close():
    """An endpoint must not send 1005 itself (RFC 6455 section 7.1.5)."""
    assert (1005, "") == read_close(b"")
    assert not {999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000} & CLOSE_CODES


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x03", 1002),
        (close_payload(1004, ""), 1002),
        (close_payload(1005, ""), 1002),
        (close_payload(2999, "\u20ac"), 1002),
        (close_payload(5000, ""), 1002),
        (b"\x03\xe8\xff", 1007),
    ],
)
def test_an_invalid_close_raises_a_frame_error(payload, code):
    with pytest.raises(FrameError) as raised:
        read_close(payload)

    assert code == raised.value.code
