"""Messages are decoded unchanged from any division of the stream, and invalid ones are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgid.wire import (
    MAX_BYTES,
    REASON_CHARACTERS,
    Drain,
    Failed,
    FromMaster,
    FromWorker,
    Ready,
    Reopen,
    encode,
    from_master,
    from_worker,
)

_SECONDS = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
_FROM_WORKER: st.SearchStrategy[FromWorker] = st.builds(Ready, st.text()) | st.builds(Failed, st.text())
_FROM_MASTER: st.SearchStrategy[FromMaster] = st.builds(Drain, _SECONDS, _SECONDS) | st.builds(Reopen)


@pytest.mark.parametrize(
    ("make_decoder", "messages_of", "max_size"), [(from_worker, _FROM_WORKER, 3), (from_master, _FROM_MASTER, 5)]
)
@given(data=st.data())
def test_messages_are_decoded_unchanged_from_any_division_of_the_stream(make_decoder, messages_of, max_size, data):
    """A socket does not keep the borders of writes."""
    messages = data.draw(st.lists(messages_of, max_size=max_size))
    stream = b"".join(encode(message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    decoder = make_decoder()
    received = [
        message
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for message in decoder.feed(stream[start:end])
    ]

    assert messages == received


@pytest.mark.parametrize("reason", ["one\ntwo", "\r\n", "\u2028", "\x00", "\x85"])
def test_a_message_with_line_breaks_is_one_line(reason):
    """A reason comes from an exception of the application and may contain any text."""
    line = encode(Failed(reason))

    assert line.count(b"\n") == 1
    assert [Failed(reason)] == from_worker().feed(line)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"ready\n",
        b'{"is": "fork"}\n',
        b'{"is": ["ready"]}\n',
        b'{"interface": "wsgi"}\n',
        b'{"is": "ready", "interface": null}\n',
        b'{"is": "failed", "reason": {"a": [1]}}\n',
        b'{"is": "ready", "interface": "wsgi", "slot": 1}\n',
        encode(Reopen()),
        encode(Drain(1.0, 1.0)),
        b"\xff\n",
        b"[" * (MAX_BYTES - 1) + b"\n",
        encode(Failed("a" * MAX_BYTES)),
        encode(Ready("a" * (REASON_CHARACTERS + 1))),
    ],
    ids=range(15),
)
def test_a_message_that_no_worker_writes_is_refused(line):
    """An application that writes to the lifeline must not make its worker look ready."""
    with pytest.raises(ValueError):
        from_worker().feed(line)


@pytest.mark.parametrize("line", [encode(Ready("wsgi")), b'{"is": "drain", "grace_s": "1", "linger_s": 1.0}\n'])
def test_a_message_that_no_master_writes_is_refused(line):
    """A worker is as strict as the master."""
    with pytest.raises(ValueError):
        from_master().feed(line)


def test_more_messages_than_a_worker_sends_are_refused():
    """A flood would keep the master busy. A worker sends each kind once at most."""
    decoder = from_worker()

    assert [Ready("wsgi")] == decoder.feed(encode(Ready("wsgi")))
    assert [Failed("no")] * 2 == decoder.feed(encode(Failed("no")) * 2)
    with pytest.raises(ValueError, match="more than 3 messages"):
        decoder.feed(encode(Ready("wsgi")))


def test_a_line_without_an_end_is_refused():
    """It must not fill the memory of the master."""
    decoder = from_worker()

    assert [] == decoder.feed(b"x" * MAX_BYTES)
    with pytest.raises(ValueError, match="longer than"):
        decoder.feed(b"x")


@pytest.mark.parametrize("garbage", [b"hello\n", encode(Reopen()), b"x" * (MAX_BYTES + 1)], ids=range(3))
def test_a_stream_stays_invalid_after_an_invalid_message(garbage):
    """Even in the program that takes over."""
    decoder = from_worker()
    with pytest.raises(ValueError):
        decoder.feed(garbage)

    for later in (decoder, from_worker(decoder.half_read)):
        with pytest.raises(ValueError):
            later.feed(b"\n" + encode(Ready("wsgi")))


@pytest.mark.parametrize("character", ["a", '"', "\x00", "é", "\N{GRINNING FACE}", "\ud83d"])
def test_the_longest_reason_fits_with_any_character(character):
    """JSON takes twelve bytes at most for a character."""
    failed = Failed(character * REASON_CHARACTERS)

    assert [failed] == from_worker().feed(encode(failed))


def test_half_a_message_is_not_decoded():
    assert from_worker().feed(encode(Ready("wsgi"))[:-1]) == []
