"""permessage-deflate: the negotiation, and messages that other libraries inflate."""

import zlib

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from wsproto.extensions import PerMessageDeflate as Wsproto
from wsproto.frame_protocol import FrameProtocol

from asgid.worker.websocket import deflate
from asgid.worker.websocket.deflate import DeflateParameters, Deflater, Inflater
from asgid.worker.websocket.frames import RSV1, WHOLE_BINARY, frame_head

_NAME = "permessage-deflate"


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (_NAME, "server_max_window_bits=12"),
        (f"{_NAME}; client_max_window_bits", "server_max_window_bits=12; client_max_window_bits=12"),
        (f"{_NAME};client_max_window_bits = 10", "server_max_window_bits=12; client_max_window_bits=10"),
        (f'{_NAME}; client_max_window_bits="8"', "server_max_window_bits=12; client_max_window_bits=8"),
        (f"{_NAME}; server_max_window_bits=9", "server_max_window_bits=9"),
        (f"{_NAME}; server_max_window_bits=15", "server_max_window_bits=12"),
        (f"{_NAME}; server_no_context_takeover", "server_no_context_takeover; server_max_window_bits=12"),
        (f"{_NAME}; client_no_context_takeover", "client_no_context_takeover; server_max_window_bits=12"),
        (f"x-other, {_NAME}; nonsense, ,{_NAME}", "server_max_window_bits=12"),
        (f"{_NAME}; server_max_window_bits=8, {_NAME}", "server_max_window_bits=12"),
    ],
)
def test_the_first_supported_offer_is_accepted(offers, answer):
    parameters = deflate.negotiate(offers)

    assert parameters
    assert f"{_NAME}; {answer}" == parameters.answer.decode()


@pytest.mark.parametrize(
    "offers",
    [
        "",
        "x-webkit-deflate-frame",
        "a;;=",
        f"{_NAME}x",
        f"{_NAME};",
        f"{_NAME}; nonsense",
        f"{_NAME}; server_no_context_takeover=1",
        f"{_NAME}; client_no_context_takeover=",
        f"{_NAME}; server_max_window_bits",
        f"{_NAME}; server_max_window_bits=",
        f"{_NAME}; server_max_window_bits=7",
        f"{_NAME}; server_max_window_bits=08",
        f"{_NAME}; server_max_window_bits=16",
        f"{_NAME}; server_max_window_bits=8",
        f"{_NAME}; client_max_window_bits=99",
        f'{_NAME}; client_max_window_bits="10',
        f"{_NAME}; client_max_window_bits; client_max_window_bits",
        f"{_NAME}; client_max_window_bits=\N{SUPERSCRIPT NINE}",
    ],
)
def test_an_unsupported_or_invalid_offer_is_declined(offers):
    """RFC 7692 section 5.1. A window of 256 bytes is unsupported: zlib cannot deflate with it."""
    assert deflate.negotiate(offers) is None


def _negotiated(offer: str) -> DeflateParameters:
    parameters = deflate.negotiate(offer)
    assert parameters
    return parameters


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("resets", [False, True])
def test_other_libraries_inflate_a_deflated_message(bits, resets):
    """Two equal messages: only with a context is the second one shorter."""
    message = bytes(range(200))
    deflater = Deflater(
        _negotiated(f"{_NAME}; server_max_window_bits={bits}" + "; server_no_context_takeover" * resets)
    )
    payloads = deflater.deflate(message), deflater.deflate(message)
    client = PerMessageDeflate(resets, False, bits, 15)
    wsproto = Wsproto(server_max_window_bits=bits, server_no_context_takeover=resets)
    wsproto._enabled = True
    protocol = FrameProtocol(client=True, extensions=[wsproto])
    for payload in payloads:
        protocol.receive_bytes(frame_head(WHOLE_BINARY | RSV1, len(payload)) + payload)

    assert (len(payloads[0]) == len(payloads[1])) == resets
    assert [message] * 2 == [client.decode(Frame(Opcode.BINARY, payload, rsv1=True)).data for payload in payloads]
    assert [message] * 2 == [bytes(frame.payload) for frame in protocol.received_frames()]  # type: ignore[arg-type] # no close


@pytest.mark.parametrize("bits", [8, 9, 12, 15])
def test_a_client_may_use_the_negotiated_window(bits):
    """zlib uses 9 for 8, so a window of 9 is accepted for 8."""
    content = bytes(range(256)) * 2
    compressor = zlib.compressobj(wbits=-max(9, min(12, bits)))
    inflater = Inflater(_negotiated(f"{_NAME}; client_max_window_bits={bits}"))
    inflater.feed(compressor.compress(content) + compressor.flush(zlib.Z_SYNC_FLUSH))
    inflated = b""
    while not inflater.is_dry:
        inflated += inflater.inflate(7)

    assert content == inflated


def test_a_zlib_context_is_allocated_for_the_first_message():
    """Ten thousand idle browsers need no zlib context."""
    parameters = _negotiated(_NAME)

    assert Inflater(parameters)._zlib is None
    assert Deflater(parameters)._zlib is None
