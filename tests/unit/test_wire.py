"""What goes over the wire comes back the same, however the stream is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgid.wire import Decoder, Drain, Failed, Message, Ready, Reopen, encode

_SECONDS = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
_MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ready, st.text()),
    st.builds(Failed, st.text()),
    st.builds(Drain, _SECONDS, _SECONDS),
    st.builds(Reopen),
)


@given(st.lists(_MESSAGES, max_size=5), st.data())
def test_messages_come_back_the_same_however_the_stream_is_cut(messages, data):
    """A socket keeps order and no borders."""
    stream = b"".join(encode(message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    decoder = Decoder()
    received = [
        message
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for message in decoder.feed(stream[start:end])
    ]

    assert messages == received


@pytest.mark.parametrize("reason", ["one\ntwo", "\r\n", "\u2028", "\x00", "\x85"])
def test_a_message_is_one_line_whatever_it_says(reason):
    """A reason comes from the application's exception and may hold anything."""
    line = encode(Failed(reason))

    assert line.count(b"\n") == 1
    assert [Failed(reason)] == Decoder().feed(line)


@pytest.mark.parametrize(
    "line", [b"\n", b"{}\n", b"ready\n", b'{"is": "fork"}\n', b'{"interface": "wsgi"}\n', b"\xff\n"]
)
def test_what_asgid_does_not_write_is_refused(line):
    """An application that writes into its worker's lifeline must not pass for a worker that is ready."""
    with pytest.raises(ValueError):
        Decoder().feed(line)


def test_half_a_message_is_none():
    """A worker killed while it wrote has said nothing."""
    assert Decoder().feed(encode(Ready("wsgi"))[:-1]) == []
