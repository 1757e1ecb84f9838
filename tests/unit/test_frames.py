"""Frames that a server sends, read by another."""

import pytest
from websockets.frames import BINARY, TEXT, Frame
from websockets.protocol import CLIENT, Protocol

from asgid.worker.frames import WHOLE_BINARY, WHOLE_TEXT, frame_head


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 1_000_000])
@pytest.mark.parametrize(("first", "opcode"), [(WHOLE_TEXT, TEXT), (WHOLE_BINARY, BINARY)])
def test_a_frame_is_read_as_the_message_that_it_is(size, first, opcode):
    """Whole, and in the very bytes that the library writes."""
    payload = b"x" * size
    frame = frame_head(first, size) + payload
    client = Protocol(CLIENT, max_size=None)
    client.receive_data(frame)

    assert [Frame(opcode, payload)] == client.events_received()
    assert frame == Frame(opcode, payload).serialize(mask=False)
