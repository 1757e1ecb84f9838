"""A WebSocket from the client's side and the application's: messages, closes, limits, back-pressure, malformed
frames.
"""

import asyncio
import resource
import struct
import zlib
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate

from asgid.config import parse
from asgid.worker.app.interface import ADAPTERS
from asgid.worker.net.lingering_close import LINGER_S
from asgid.worker.net.turns import SHARE_S
from asgid.worker.websocket.protocol import CLOSE_S
from tests.worker.apps import accept, echo, respond
from tests.worker.client import Client, request
from tests.worker.event_loop import turns, until
from tests.worker.parts import has_unread_frames, is_open, waits_for_pong
from tests.worker.peer import ACCEPT, Peer, all_closed, connect, handshake, opened
from tests.worker.worker import Worker, served


class Listener:
    """Accepts, and keeps all that it receives."""

    def __init__(self, **accept: Any) -> None:
        self.accept = accept
        self.scope: dict[str, Any] = {}
        self.heard: list[dict[str, Any]] = []

    async def __call__(self, scope, receive, send):
        self.scope = scope
        self.heard.append(await receive())
        await send({"type": "websocket.accept", **self.accept})
        while self.heard[-1]["type"] != "websocket.disconnect":
            self.heard.append(await receive())


# -- the handshake -----------------------------------------------------------------------------------------------------


async def test_a_handshake_gets_the_response_of_rfc_6455():
    """The key of section 1.3 has the accept value of section 1.3, and the scope is that of a WebSocket."""
    app = Listener()
    async with opened(app, "/chat/%C3%BC?room=1", "Sec-WebSocket-Protocol: soap, wamp") as (_, peer):
        await peer.send_close()
        await peer.closed()

        assert (101, ACCEPT, "websocket", "Upgrade") == (
            peer.status,
            peer.headers["sec-websocket-accept"],
            peer.headers["upgrade"],
            peer.headers["connection"],
        )
        assert "asgid" == peer.headers["server"]
        assert "sec-websocket-protocol" not in peer.headers
        expected = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/chat/ü",
            "raw_path": b"/chat/%C3%BC",
            "query_string": b"room=1",
            "root_path": "",
            "subprotocols": ["soap", "wamp"],
            "extensions": {"websocket.http.response": {}},
        }
        assert expected == {key: app.scope[key] for key in expected}
        assert (b"host", b"test.invalid") in app.scope["headers"]
        assert "method" not in app.scope


async def test_an_asgi_2_application_is_served_too():
    def twice(scope):
        async def application(receive, send):
            await echo(scope, receive, send)

        return application

    async with opened(ADAPTERS["asgi2"](twice, parse('app.target = "a:b"', ""))) as (_, peer):
        await peer.send("ping")

        assert "ping" == await peer.message()


async def test_accept_may_add_a_subprotocol_and_headers():
    """A field of the application replaces the server's own one."""
    headers = [(b"X-Room", b"1"), [b"server", b"mine"], (b"set-cookie", b"a=b"), (b"connection", b"close")]
    async with Worker(Listener(subprotocol="wamp", headers=headers)) as worker:
        peer = await connect(worker, "/", "Sec-WebSocket-Protocol: soap,,wamp")

        assert 101 == peer.status
        assert ("wamp", "1", "mine", "a=b", "Upgrade") == tuple(
            peer.headers[name] for name in ("sec-websocket-protocol", "x-room", "server", "set-cookie", "connection")
        )
        assert "date" in peer.headers


async def test_an_empty_subprotocol_counts_as_none():
    """An application may pass it on; it is not a token (RFC 6455 section 4.2.2)."""
    headers = [(b"upgrade", b"h2c")]
    async with opened(Listener(subprotocol="", headers=headers)) as (_, peer):
        assert (101, None) == (peer.status, peer.headers.get("sec-websocket-protocol"))
        assert ("websocket", "Upgrade") == (peer.headers["upgrade"], peer.headers["connection"])


@pytest.mark.parametrize(
    ("accept", "said"),
    [
        ({"subprotocol": "soap"}, "does not offer the subprotocol 'soap'; it offers none"),
        ({"headers": [(b"Sec-WebSocket-Protocol", b"a")]}, "a subprotocol has its own key"),
        ({"headers": [(b"sec-websocket-accept", b"a")]}, "is the server's"),
        ({"headers": [(b"a b", b"c")]}, "is not a token"),
        ({"headers": [(b"a", b"c\r\nd: e")]}, "control character"),
        ({"headers": [("a", "b")]}, "both bytes"),
    ],
)
async def test_an_invalid_accept_raises_in_the_application(accept, said):
    async with opened(Listener(**accept)) as (worker, peer):
        assert 500 == peer.status
        assert said in str(worker.lines[-1].fields["stack"])
        assert 1 == worker.counts["EXCEPTIONS"]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Sec-WebSocket-Version: 12", 426),
        ("Sec-WebSocket-Version: 13, 8", 426),
        ("Sec-WebSocket-Version:", 426),
        ("Sec-WebSocket-Key:", 400),
        ("Sec-WebSocket-Key: c2hvcnQ=", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==x", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=", 400),
        ("Sec-WebSocket-Protocol: a b", 400),
    ],
)
async def test_an_invalid_handshake_is_rejected(header, status):
    """The response has the reason, and for another version the supported one (RFC 6455 section 4.4)."""
    app = Listener()
    async with served(app, handshake("/", header)) as (worker, client):
        response = await client.response()

        assert status == response.status
        assert b"" == await client.rest()
        assert not app.heard
        assert 1 == worker.counts["error websocket"]
        if status == 426:
            assert ("13", "websocket") == (response.headers["sec-websocket-version"], response.headers["upgrade"])


@pytest.mark.parametrize(
    "sent",
    [
        handshake().replace(b"GET", b"POST"),
        handshake().replace(b"HTTP/1.1", b"HTTP/1.0"),
        handshake("/", "Upgrade: h2c"),
        handshake("/", "Upgrade: websocketx, xwebsocket"),
        handshake("/", "Connection: keep-alive"),
        handshake("/", "Content-Length: 2") + b"{}",
    ],
    ids=["POST", "HTTP/1.0", "h2c", "resembles", "no upgrade", "a body"],
)
async def test_an_upgrade_that_cannot_be_a_websocket_is_served_as_http(sent):
    """A server may ignore an offer to upgrade (RFC 9110 section 7.8)."""

    async def app(scope, receive, send):
        await respond(send, scope["type"].encode())

    async with served(app, sent) as (_, client):
        assert b"http" == (await client.response()).body


async def test_upgrade_and_connection_are_lists_in_any_case():
    """Firefox sends `Connection: keep-alive, Upgrade`."""
    async with opened(echo, "/", "Upgrade: foo/1, WebSocket", "Connection: keep-alive, UPGRADE") as (_, peer):
        assert 101 == peer.status


async def test_an_interface_without_websockets_gets_an_http_request():
    async def app(scope, receive, send):
        await respond(send, scope["type"].encode())

    async with Worker(app) as worker:
        worker.ignore_websockets()
        client = await worker.connect(handshake() + request("GET", "/next"))

        assert [b"http", b"http"] == [(await client.response()).body, (await client.response()).body]


async def test_a_handshake_waits_for_the_requests_before_it():
    """The bytes behind it belong to the WebSocket."""

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await asyncio.sleep(0)
            await respond(send, b"first")
        else:
            await echo(scope, receive, send)

    async with served(app) as (worker, client):
        frame = b"\x81\x82\0\0\0\0hi"
        client.push(request() + handshake() + frame)

        assert b"first" == (await client.response()).body
        peer = Peer(worker, client, await client.head(), [])
        assert (101, "hi") == (peer.status, await peer.message())


async def test_frames_before_the_accept_are_bounded():
    """They wait for the application; above the bound they stay in the kernel."""
    step = asyncio.Event()

    async def app(scope, receive, send):
        await step.wait()
        await echo(scope, receive, send)

    async with served(app, handshake()) as (worker, client):
        await until(lambda: client.has_exchange)
        frame = b"\x82\xfe" + struct.pack("!H", 4000) + b"\0\0\0\0" + b"x" * 4000
        sent = 0
        for _ in range(200):
            sent += client.push(frame[sent % len(frame) :])
            await asyncio.sleep(0)

        assert sent < 200 * len(frame)
        assert client.received < 200_000
        step.set()
        peer = Peer(worker, client, await client.head(), [])
        assert [b"x" * 4000] * 3 == [await peer.message() for _ in range(3)]


# -- denials -----------------------------------------------------------------------------------------------------------


async def test_a_close_instead_of_an_accept_is_a_403():
    """The specification says so; access log and board have it like any response."""
    heard = []

    async def app(scope, receive, send):
        heard.append(await receive())
        await send({"type": "websocket.close", "code": 4000})
        heard.append(await receive())

    async with served(app, handshake("/secret")) as (worker, client):
        response = await client.response()

        assert (403, b"", True) == (response.status, response.body, response.closes)
        assert ["websocket.connect", "websocket.disconnect"] == [message["type"] for message in heard]
        assert [("/secret", 403)] == [(path, status) for _, path, status, _, _ in worker.access_entries]
        assert 1 == worker.counts["GET 403"]


async def test_an_application_may_deny_a_handshake_with_a_response():
    """Extension "WebSocket Denial Response": status, headers and a body in parts."""

    async def app(scope, receive, send):
        await receive()
        start = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Basic")]}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"are you?"})

    async with served(app, handshake()) as (_, client):
        response = await client.response()

        assert (401, b"who are you?", "Basic") == (response.status, response.body, response.headers["www-authenticate"])
        assert response.closes


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "websocket.send", "text": "too early"}],
        [{"type": "http.response.start", "status": 200}],
        [{"type": "websocket.http.response.body", "body": b""}],
        [{"type": "websocket.nonsense"}],
        [{}],
        [],
    ],
)
async def test_an_application_that_ignores_the_handshake_causes_a_500(messages):
    """By an unexpected message or by returning; the log has one line."""

    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    async with served(app, handshake()) as (worker, client):
        assert 500 == (await client.response()).status
        assert ["application failed"] == [line.event for line in worker.lines]


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000, 2_000_000])
async def test_messages_of_every_size_come_back(size):
    async with opened(echo) as (worker, peer):
        sending = asyncio.ensure_future(peer.send(b"\x80" * size))
        assert b"\x80" * size == await peer.message()
        await sending
        sending = asyncio.ensure_future(peer.send("ü" * (size // 2)))
        assert "ü" * (size // 2) == await peer.message()
        await sending

        assert 2 == worker.counts["WEBSOCKET_RECEIVED"] == worker.counts["WEBSOCKET_SENT"]
        assert 1 == worker.counts["WEBSOCKETS"]


async def test_fragments_with_a_ping_between_them_are_one_message():
    """A character may be cut in two."""
    async with opened(echo) as (_, peer):
        await peer.send_fragments("a", "", "b")
        peer.protocol.send_binary(b"\xff", fin=False)
        peer.protocol.send_ping(b"between")
        peer.protocol.send_continuation(b"\xfe", fin=True)
        await peer.flush()
        await peer.send_raw(b"\x01\x81\0\0\0\0\xc3" + b"\x80\x81\0\0\0\0\xbc")

        assert ["ab", b"\xff\xfe", "ü"] == [await peer.message() for _ in range(3)]
        assert b"between" == await peer.pong()


async def test_bytes_that_arrive_one_by_one_make_the_same_messages():
    """The kernel may cut a frame at any place."""
    async with opened(echo) as (_, peer):
        peer.protocol.send_text("häppchen".encode())
        peer.protocol.send_binary(b"x" * 300)
        for byte in b"".join(peer.protocol.data_to_send()):
            await peer.send_raw(bytes([byte]))
            await asyncio.sleep(0)

        assert ["häppchen", b"x" * 300] == [await peer.message(), await peer.message()]


async def test_messages_of_one_turn_leave_in_order():
    """The first one leaves at once, the others together."""

    async def app(scope, receive, send):
        await accept(receive, send)
        for number in range(100):
            await send({"type": "websocket.send", "text": str(number)})

    async with opened(app) as (_, peer):
        assert [str(number) for number in range(100)] == [await peer.message() for _ in range(100)]
        assert (1000, "") == await peer.closed()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"type": "websocket.send"}, "there is no text, and the bytes are NoneType"),
        ({"type": "websocket.send", "text": b"bytes"}, "the text is a str, not bytes"),
        ({"type": "websocket.send", "text": "\ud800"}, "cannot be encoded in UTF-8"),
        ({"type": "websocket.send", "bytes": "text"}, "the bytes are str"),
        ({"type": "websocket.accept"}, "'websocket.accept' is not expected; the WebSocket is open"),
        ({"type": "websocket.close", "code": 1005}, "1005 is not a code that may be sent"),
        ({"type": "websocket.close", "code": 999}, "999 is not a code"),
        ({"type": "websocket.close", "code": 5000}, "5000 is not a code"),
        ({"type": "websocket.close", "code": "1000"}, "'1000' is not a code"),
        ({"type": "websocket.close", "code": 1000.0}, "1000.0 is not a code"),
        ({"type": "websocket.close", "reason": "x" * 124}, "at most 123 bytes"),
    ],
)
async def test_an_invalid_message_of_the_application_closes_with_1011(message, said):
    """The client learns that the server failed; the log has the reason."""

    async def app(scope, receive, send):
        await accept(receive, send)
        await send(message)

    async with opened(app) as (worker, peer):
        assert (1011, "") == await peer.closed()
        await all_closed(worker)
        assert ["application failed"] == [line.event for line in worker.lines]
        assert said in str(worker.lines[-1].fields["stack"])
        assert {"EXCEPTIONS": 1, "close 1011": 1}.items() <= worker.counts.items()


@pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abc")])
async def test_any_kind_of_bytes_is_copied_and_sent(data):
    """A later change of the buffer changes nothing."""

    async def app(scope, receive, send):
        await accept(receive, send)
        await send({"type": "websocket.send", "bytes": data, "text": None})

    async with Worker(app) as worker:
        assert b"abc" == await (await connect(worker)).message()


# -- the close ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ((1000, ""), (1000, "")),
        ((4321, "tschüß"), (4321, "tschüß")),
        ((None, ""), (1005, "")),
        ((1001, "x"), (1001, "x")),
    ],
)
async def test_a_close_of_the_client_gets_a_close_and_reaches_the_application(sent, told):
    app = Listener()
    async with opened(app) as (worker, peer):
        await peer.send("last words")
        await peer.send_close(*sent)

        assert told == await peer.closed()
        await all_closed(worker)
        disconnect = {"type": "websocket.disconnect", "code": told[0], "reason": told[1]}
        assert [{"type": "websocket.receive", "text": "last words"}, disconnect] == app.heard[1:]
        assert 1 == worker.counts["close other" if told[0] > 3000 else f"close {told[0]}"]
        assert not worker.lines


async def test_a_client_may_close_between_two_fragments():
    """It gets its own code back; the unfinished message is dropped (RFC 6455 section 5.4)."""
    app = Listener()
    async with opened(app) as (worker, peer):
        await peer.send_raw(masked(0x01, b"begun") + masked(0x88, struct.pack("!H", 1000)) + masked(0x80, b"ended"))

        assert (1000, "") == await peer.closed()
        await all_closed(worker)
        assert [{"type": "websocket.disconnect", "code": 1000, "reason": ""}] == app.heard[1:]


@pytest.mark.parametrize(
    ("message", "closed"),
    [
        ({}, (1000, "")),
        ({"code": 4000, "reason": "no room"}, (4000, "no room")),
        ({"code": None, "reason": None}, (1000, "")),
        ({"code": 1012, "reason": "x" * 123}, (1012, "x" * 123)),
    ],
)
async def test_an_application_may_close_with_a_code_and_a_reason(message, closed):
    heard = []

    async def app(scope, receive, send):
        await accept(receive, send)
        await send({"type": "websocket.close", **message})
        heard.append(await receive())

    async with opened(app) as (_, peer):
        assert closed == await peer.closed()
        assert [{"type": "websocket.disconnect", "code": closed[0], "reason": closed[1]}] == heard


async def test_a_client_that_ignores_a_close_is_aborted():
    """After CLOSE_S; bytes that arrive until then are discarded."""

    async def app(scope, receive, send):
        await accept(receive, send)
        await send({"type": "websocket.close", "code": 4000})

    async with opened(app) as (worker, peer):
        assert b"\x88\x02\x0f\xa0" == await peer.client.exactly(4)  # 4000: the time runs from here
        await peer.send_raw(b"\x81\x82\0\0\0\0hi" * 3)
        worker.pass_time(CLOSE_S - 1)
        await asyncio.sleep(0)
        assert worker.websockets
        worker.pass_time(1.1)
        await all_closed(worker)

        assert 1 == worker.counts["close other"]
        assert "WEBSOCKET_RECEIVED" not in worker.counts


@pytest.mark.parametrize("end", [Client.close, Client.half_close])
async def test_a_client_that_leaves_without_a_close_is_1006(end):
    """The stream or the connection ends. send() raises OSError."""
    said: list[object] = []

    async def app(scope, receive, send):
        await accept(receive, send)
        said.append(await receive())
        for message in ({"type": "websocket.send", "text": "x"}, {"type": "websocket.close"}):
            try:
                await send(message)
            except OSError as error:
                said.append(type(error).__name__)
        said.append(await receive())

    async with opened(app) as (worker, peer):
        end(peer.client)
        await all_closed(worker)
        await until(lambda: not worker.running)

        gone = {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        assert [gone, "ClientDisconnectedError", "ClientDisconnectedError", gone] == said
        assert 1 == worker.counts["close 1006"]
        assert not worker.lines


async def test_a_client_that_leaves_within_the_handshake_is_1006():
    said = []

    async def app(scope, receive, send):
        said.append(await receive())
        said.append(await receive())
        await send({"type": "websocket.accept"})

    async with served(app, handshake()) as (worker, client):
        await until(lambda: said)
        client.close()
        await until(lambda: not worker.running)

        assert [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006, "reason": ""}] == said
        assert {"ABANDONED": 1, "DISCONNECTS": 1}.items() <= worker.counts.items()
        assert not worker.lines


async def test_send_after_its_own_close_raises_in_the_application():
    """The error names the state; the close has left before."""

    async def app(scope, receive, send):
        await accept(receive, send)
        await send({"type": "websocket.close"})
        await send({"type": "websocket.send", "text": "x"})

    async with opened(app) as (worker, peer):
        assert (1000, "") == await peer.closed()
        assert "'websocket.send' is not expected; the WebSocket is closed" in str(worker.lines[-1].fields["stack"])


@pytest.mark.parametrize("client_closes", [True, False])
async def test_send_after_the_call_has_returned_raises_oserror(client_closes):
    """A task that broadcasts may be late; it does not matter which side closed."""
    step = asyncio.Event()
    said: list[object] = []

    async def late(send):
        await step.wait()
        try:
            await send({"type": "websocket.send", "text": "x"})
        except OSError as error:
            said.append(type(error).__name__)

    async def app(scope, receive, send):
        await accept(receive, send)
        said.append(asyncio.ensure_future(late(send)))
        if client_closes:
            await receive()

    async with opened(app) as (worker, peer):
        if client_closes:
            await peer.send_close()
        await peer.closed()
        await until(lambda: not worker.running)
        step.set()
        await until(lambda: len(said) == 2)

        assert "ClientDisconnectedError" == said[1]


async def test_a_reset_with_undecoded_bytes_is_1006():
    """They wait for a slow application and end with the connection; messages in the queue stay."""
    begun, step = asyncio.Event(), asyncio.Event()
    heard: list[dict[str, Any]] = []

    async def app(scope, receive, send):
        await accept(receive, send)
        begun.set()
        await step.wait()
        heard.append(await receive())
        while heard[-1]["type"] != "websocket.disconnect":
            heard.append(await receive())

    async with opened(app) as (worker, peer):
        await begun.wait()
        peer.client.push(masked(0x81, b"x") * 12_000)
        await until(lambda: worker.paused_connections, "reading has paused")
        [websocket] = worker.websockets
        assert has_unread_frames(websocket)
        peer.client.close()
        websocket.abort()
        await all_closed(worker)
        step.set()
        await until(lambda: not worker.running)

        assert 1006 == heard[-1]["code"]
        assert not worker.lines


async def test_an_application_that_fails_closes_with_1011():
    """One that returns closes with 1000."""

    async def app(scope, receive, send):
        await accept(receive, send)
        if scope["path"] == "/fail":
            raise ValueError("on purpose")

    async with Worker(app) as worker:
        assert (1011, "") == await (await connect(worker, "/fail")).closed()
        assert (1000, "") == await (await connect(worker, "/")).closed()
        assert ["application failed"] == [line.event for line in worker.lines]
        assert ("GET", "/fail") == (worker.lines[0].fields["method"], worker.lines[0].fields["path"])


async def test_the_disconnect_of_another_client_is_a_failure():
    """An application that broadcasts may meet one that has gone; its own client still gets a response."""
    sends: list[Any] = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await sends[0]({"type": "websocket.send", "text": "news"})
        await accept(receive, send)
        sends.append(send)
        await receive()

    async with opened(app) as (worker, peer):
        peer.client.close()
        await all_closed(worker)

        assert 500 == (await (await worker.connect()).get()).status


# -- limits ------------------------------------------------------------------------------------------------------------


def masked(first: int, payload: bytes, *, length: int | None = None, mask: int = 0x80) -> bytes:
    """Return a frame with its first byte, and a payload under the mask 0; `length` is the stated one."""
    size = len(payload) if length is None else length
    if size < 126:
        head = bytes([first, mask | size])
    elif size < 65536:
        head = bytes([first, mask | 126]) + struct.pack("!H", size)
    else:
        head = bytes([first, mask | 127]) + struct.pack("!Q", size)
    return head + (b"\0\0\0\0" if mask else b"") + payload


_GARBAGE = {
    "a reserved bit": (masked(0xC1, b"x"), 1002),
    "another reserved bit": (masked(0xA1, b"x"), 1002),
    "a reserved opcode": (masked(0x83, b"x"), 1002),
    "a reserved control opcode": (masked(0x8B, b"x"), 1002),
    "no mask": (masked(0x81, b"x", mask=0), 1002),
    "a ping of 126 bytes": (masked(0x89, b"x" * 126), 1002),
    "a ping that announces 200 bytes": (b"\x89\xfe\x00\xc8", 1002),
    "a ping that announces 64 MiB": (b"\x89\xff" + (64 << 20).to_bytes(8), 1002),
    "a close of 126 bytes": (masked(0x88, struct.pack("!H", 1000) + b"x" * 124), 1002),
    "a length in a longer form": (b"\x81\xfe\0\x01\0\0\0\0x", 1002),
    "the longest length in a longer form": (b"\x82\xfe\0\x7d\0\0\0\0" + b"x" * 125, 1002),
    "a length in the longest form": (b"\x82\xff" + (65535).to_bytes(8) + b"\0\0\0\0", 1002),
    "no length in a longer form, in a second frame": (masked(0x81, b"x") + b"\x81\xfe\0\0\0\0\0\0", 1002),
    "a ping with its length in a longer form": (b"\x89\xff" + (1).to_bytes(8) + b"\0\0\0\0x", 1002),
    "a ping in fragments": (masked(0x09, b"x"), 1002),
    "a close of one byte": (masked(0x88, b"\x03"), 1002),
    "a close with a code that may not be sent": (masked(0x88, struct.pack("!H", 1005)), 1002),
    "a close with a reason that is not UTF-8": (masked(0x88, struct.pack("!H", 1000) + b"\xff"), 1007),
    "a fragment of nothing": (masked(0x80, b"x"), 1002),
    "a message within another": (masked(0x01, b"x") + masked(0x81, b"y"), 1002),
    "text that is not UTF-8": (masked(0x81, b"\xff"), 1007),
    "text that is not UTF-8, of a frame that is not whole": (masked(0x81, b"a\xff", length=100), 1007),
    "text that ends within a letter": (masked(0x81, b"\xc3"), 1007),
    "a fragment that cannot be text": (masked(0x01, b"\xff"), 1007),
    "text that ends within a letter of its last fragment": (masked(0x01, b"\xc3") + masked(0x80, b""), 1007),
    "a message above the limit": (masked(0x82, b"", length=1001), 1009),
    "a message of endless length": (masked(0x82, b"", length=2**63 - 1), 1009),
    "a length with its highest bit": (b"\x82\xff" + b"\xff" * 8, 1009),
    "fragments above the limit": (masked(0x02, b"x" * 600) + masked(0x80, b"x" * 600), 1009),
    "HTTP": (request() * 3, 1002),
}


@pytest.mark.parametrize("name", _GARBAGE)
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_malformed_frames_close_with_the_code_of_the_fault(name, in_pieces):
    """The application receives the same code, the board counts it, and other clients are served."""
    app = Listener()
    sent, code = _GARBAGE[name]
    async with Worker(app, websocket={"max_message": 1000}) as worker:
        peer, other = await connect(worker), await connect(worker)
        for piece in [sent[at : at + 1] for at in range(len(sent))] if in_pieces else [sent]:
            await peer.send_raw(piece)
            await asyncio.sleep(0)

        assert code == (await peer.closed())[0]
        peer.client.close()
        await until(lambda: len(worker.websockets) == 1)
        assert code == app.heard[-1]["code"] or code == app.heard[-2]["code"]
        assert 1 == worker.counts[f"close {code}"]
        await other.send_ping(b"on")
        assert b"on" == await other.pong()
        assert not worker.lines


@pytest.mark.parametrize("size", [0, 125, 126, 127, 32_382, 65_535, 65_536, 65_662])
async def test_only_the_shortest_form_of_a_length_is_valid(size):
    """Also if the frame head comes byte by byte, and behind a mask or payload that looks like a length."""
    app = Listener()
    async with opened(app) as (_, peer):
        frame = masked(0x82, b"\0" * size)
        for piece in (masked(0x82, b"\0\0"), *(frame[at : at + 1] for at in range(14)), frame[14:], masked(0x82, b"")):
            await peer.send_raw(piece)
        await until(lambda: len(app.heard) == 4)

        assert [2, size, 0] == [len(message["bytes"]) for message in app.heard[1:]]


@pytest.mark.parametrize("behind", [masked(0x89, b"on"), masked(0x88, struct.pack("!H", 1000)), masked(0x83, b"")])
async def test_nothing_behind_invalid_text_is_read(behind):
    """Even in the same read: no pong is sent, and the close has the code of the first fault."""
    app = Listener()
    async with opened(app) as (_, peer):
        await peer.send_raw(masked(0x81, b"\xff") + behind)

        assert 1007 == (await peer.closed())[0]
        assert not peer.pongs
        assert 1007 == app.heard[-1]["code"]


async def test_a_client_that_sends_after_a_fault_still_gets_the_close():
    """Its bytes are discarded for LINGER_S, so that no reset discards the close frame."""
    async with opened(echo) as (worker, peer):
        await peer.send_raw(masked(0x83, b""))
        for _ in range(20):
            await peer.send_raw(b"x" * 50_000)

        assert 1002 == (await peer.closed())[0]
        assert worker.connections
        worker.pass_time(LINGER_S + 0.1)
        await all_closed(worker)


async def test_a_message_of_exactly_the_limit_is_accepted():
    async with opened(echo, websocket={"max_message": 1000}) as (_, peer):
        await peer.send(b"x" * 1000)
        await peer.send_fragments(b"x" * 500, b"x" * 500)
        assert [b"x" * 1000] * 2 == [await peer.message(), await peer.message()]
        await peer.send_fragments(b"x" * 500, b"x" * 501)

        assert 1009 == (await peer.closed())[0]


async def test_the_limit_on_messages_ignores_control_frames():
    """Between fragments that nearly reach it, and below the size of a control frame."""
    app = Listener()
    async with opened(app, websocket={"max_message": 100}) as (_, peer):
        await peer.send_raw(masked(0x02, b"x" * 99) + masked(0x89, b"y" * 125) + masked(0x80, b"z"))
        assert b"y" * 125 == await peer.pong()
        await peer.send_raw(masked(0x02, b"x" * 100) + masked(0x88, struct.pack("!H", 1000) + b"y" * 123))

        assert (1000, "y" * 123) == await peer.closed()
        assert [{"type": "websocket.receive", "bytes": b"x" * 99 + b"z"}] == app.heard[1:-1]


@pytest.mark.parametrize("sent", [masked(0x82, b"x" * 101), masked(0x02, b"x" * 99) + masked(0x80, b"xx")])
async def test_a_close_for_a_large_message_states_the_limit(sent):
    async with opened(echo, websocket={"max_message": 100}) as (_, peer):
        await peer.send_raw(sent)

        assert (1009, "a message exceeds 100 bytes") == await peer.closed()


async def test_a_million_fragments_take_only_their_bytes():
    """Fragments of one byte or of none are joined as they come."""
    async with opened(echo) as (_, peer):
        await peer.send_raw(masked(0x01, b"a") + masked(0x00, b"") * 20_000 + masked(0x00, b"b") * 20_000)
        await peer.send_raw(masked(0x80, b"c"))

        assert "a" + "b" * 20_000 + "c" == await peer.message()


# -- permessage-deflate ------------------------------------------------------------------------------------------------


def _deflate(server_bits: int = 12, client_bits: int = 12) -> PerMessageDeflate:
    """The client's compression."""
    return PerMessageDeflate(False, False, server_bits, client_bits)


@pytest.mark.parametrize(
    ("offer", "response"),
    [
        ("permessage-deflate", "permessage-deflate; server_max_window_bits=12"),
        (
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
        ),
        ("permessage-deflate; server_max_window_bits=9", "permessage-deflate; server_max_window_bits=9"),
        (
            "x-other, permessage-deflate; nonsense=1, permessage-deflate",
            "permessage-deflate; server_max_window_bits=12",
        ),
        ("permessage-deflate; server_max_window_bits=99", None),
        ("x-webkit-deflate-frame", None),
        ("a;;=", None),
        ("", None),
    ],
)
async def test_compression_is_agreed_with_a_bounded_window(offer, response):
    """An offer that is invalid or cannot be met is declined."""
    async with opened(echo, "/", f"Sec-WebSocket-Extensions: {offer}") as (_, peer):
        assert (101, response) == (peer.status, peer.headers.get("sec-websocket-extensions"))


async def test_compression_can_be_switched_off():
    async with Worker(echo, websocket={"compression": False}) as worker:
        peer = await connect(worker, "/", "Sec-WebSocket-Extensions: permessage-deflate")

        assert "sec-websocket-extensions" not in peer.headers


async def _compressed(worker: Worker) -> Peer:
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    return await connect(worker, "/", offer, extensions=[_deflate()])


async def test_compressed_messages_come_back_compressed_if_they_are_long():
    """The context is kept between messages; a short one is sent as it is."""
    async with Worker(echo) as worker:
        peer = await _compressed(worker)
        for message in ("short", "long " * 1000, b"\0" * 100_000, "long " * 1000, ""):
            await peer.send(message)
            assert message == await peer.message()
        await peer.send_fragments("in ", "pieces " * 500, "")
        assert "in " + "pieces " * 500 == await peer.message()
        await peer.send("long " * 1000)
        frame = await peer.client.receive()

        assert 0xC1 == frame[0]
        assert len(frame) < 200
        assert {"WEBSOCKET_RECEIVED": 7}.items() <= worker.counts.items()


def _zeros(count: int) -> bytes:
    """Return `count` million zeros, compressed; each million is a block of its own and can be joined to others."""
    compressor = zlib.compressobj(9, wbits=-12)
    return (compressor.compress(b"\0" * 1_000_000) + compressor.flush(zlib.Z_FULL_FLUSH)) * count


async def test_inflating_stops_at_the_limit():
    """In one frame, and if a fragment has just reached the limit: nothing larger is allocated."""
    bomb = _zeros(1000)[:1_000_000]  # about 1 GB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with Worker(echo, websocket={"max_message": 1_000_000}) as worker:
        for sent in (
            masked(0xC2, bomb),
            masked(0x42, _zeros(1)) + masked(0x80, bomb[:900_000]),
            masked(0x42, _zeros(1)) + masked(0x00, bomb[:500_000]),
        ):
            peer = await _compressed(worker)
            await peer.send_raw(sent)

            assert 1009 == (await peer.closed())[0]
            peer.client.close()
            await all_closed(worker)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert grown_kib < 50_000


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (masked(0xC1, b"\xff\xff\xff"), 1007),
        (masked(0xC1, b"\x03\x00\xff"), 1007),
        (masked(0xC9, b"x"), 1002),
        (masked(0x41, b"") + masked(0xC0, b""), 1002),
    ],
    ids=["a block", "behind a final block", "a ping", "a fragment that is compressed again"],
)
async def test_invalid_compressed_frames_are_malformed(sent, code):
    """So are a compressed control frame and a second fragment with RSV1 (RFC 7692 section 6)."""
    async with Worker(echo) as worker:
        peer = await _compressed(worker)
        await peer.send_raw(sent)

        assert code == (await peer.closed())[0]


@pytest.mark.parametrize("offer", ["permessage-deflate", "permessage-deflate; client_no_context_takeover"])
async def test_a_message_may_end_with_a_final_block(offer):
    """As in the example of RFC 7692 section 7.2.3.4. The next message is read, without the old context."""
    hello = masked(0xC1, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00")
    in_fragments = masked(0x41, b"\xf3\x48\xcd\xc9\xc9\x07\x00") + masked(0x80, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00")
    async with opened(echo, "/", f"Sec-WebSocket-Extensions: {offer}") as (_, peer):
        await peer.send_raw(hello + hello + in_fragments + masked(0x81, b"plain") + hello)

        assert ["Hello", "Hello", "HelloHello", "plain", "Hello"] == [await peer.message() for _ in range(5)]


@pytest.mark.parametrize("offer", ["permessage-deflate", "permessage-deflate; client_no_context_takeover"])
async def test_data_behind_a_final_block_is_read(offer):
    """In the same frame, up to the limit on a message: RFC 7692 section 7.2.1 lets a client mix block types."""
    final, hello = b"\xf3\x48\xcd\xc9\xc9\x07\x00", b"\xf2\x48\xcd\xc9\xc9\x07\x00"
    stored = b"\x01\xe8\x03\x17\xfc" + b"x" * 1000  # final, and not compressed
    async with Worker(echo, websocket={"max_message": 4500}) as worker:
        peer = await connect(worker, "/", f"Sec-WebSocket-Extensions: {offer}", extensions=[_deflate()])
        for sent in (final + hello, final * 3 + hello, stored * 4 + final + b"\0", stored * 4 + final, hello):
            await peer.send_raw(masked(0xC1, sent))
        long = "x" * 4000 + "Hello"

        assert ["Hello" * 2, "Hello" * 4, long, long, "Hello"] == [await peer.message() for _ in range(5)]
        await peer.send_raw(masked(0xC1, stored * 4 + zlib.compress(b"x" * 501, wbits=-12)))
        assert 1009 == (await peer.closed())[0]


async def test_ten_thousand_final_blocks_cost_as_much_as_frames():
    """Each begins a new context and takes only two bytes. The data behind it is copied, so that must be bounded."""
    async with Worker(echo) as worker:
        peer = await _compressed(worker)
        await peer.send_raw(masked(0xC1, b"\x03\x00" * 10_000 + b"\xf2\x48\xcd\xc9\xc9\x07\x00"))

        assert "Hello" == await peer.message()


# -- waiting for each other --------------------------------------------------------------------------------------------


async def test_reading_pauses_if_the_application_is_slow():
    """Above `websocket.queue`; no message is lost, and the order is kept."""
    step = asyncio.Event()
    heard = []

    async def app(scope, receive, send):
        await accept(receive, send)
        await step.wait()
        while (message := await receive())["type"] == "websocket.receive":
            heard.append(message["text"])

    async with opened(app, websocket={"queue": 4}) as (worker, peer):
        sent = [f"{number:06}" + "x" * 1000 for number in range(3000)]
        sending = asyncio.ensure_future(_send_all(peer, sent))
        await until(lambda: worker.paused_connections, "reading has paused")
        await turns()
        taken = worker.counts["WEBSOCKET_RECEIVED"]

        assert 4 <= taken < 200
        assert not sending.done()
        step.set()
        await sending
        await peer.send_close()
        await peer.closed()
        assert sent == heard


async def _send_all(peer: Peer, messages: list[str]) -> None:
    for message in messages:
        await peer.send(message)


@pytest.mark.parametrize(
    ("message", "min_queued", "max_queued"), [("x" * 50_000, 2, 12), ("x", 200, 950)], ids=["large", "small"]
)
async def test_the_queue_of_messages_is_bounded_in_bytes(message, min_queued, max_queued):
    """A small message counts for the memory that it takes, some 300 bytes."""
    step = asyncio.Event()

    async def app(scope, receive, send):
        await accept(receive, send)
        await step.wait()

    async with opened(app, websocket={"queue": 1000}) as (worker, peer):
        sending = asyncio.ensure_future(_send_all(peer, [message] * 3000))
        await until(lambda: worker.paused_connections, "reading has paused")
        await turns()

        assert min_queued <= worker.counts["WEBSOCKET_RECEIVED"] <= max_queued
        step.set()
        peer.client.close()
        await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize(
    ("sent", "most"), [(masked(0x81, b""), 32 + 683), (masked(0xC2, _zeros(1)[:-4]), 6)], ids=["empty", "compressed"]
)
async def test_one_read_is_decoded_only_as_far_as_the_queue_has_room(sent, most):
    """A read may hold ten thousand messages, or some that inflate a thousand times. The rest waits as bytes."""
    step, end = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        await step.wait()
        await accept(receive, send)
        await end.wait()

    async with served(app) as (worker, client):
        client.push(handshake("/", "Sec-WebSocket-Extensions: permessage-deflate") + sent * (60_000 // len(sent)))
        await until(lambda: client.received > 55_000)
        step.set()
        await until(lambda: worker.websockets and worker.paused_connections, "reading has paused")

        assert 0 < worker.counts["WEBSOCKET_RECEIVED"] <= most
        end.set()


async def test_send_waits_for_a_slow_client():
    done = 0

    async def app(scope, receive, send):
        nonlocal done
        await accept(receive, send)
        for _ in range(100):
            await send({"type": "websocket.send", "bytes": b"x" * 50_000})
            done += 1

    async with served(app, handshake(), send_buffer=10_000) as (worker, client):
        peer = Peer(worker, client, await client.head(), [])
        [websocket] = worker.websockets
        await until(lambda: websocket.writer.is_paused, "the transport is full")

        assert done < 10
        assert [50_000] * 100 == [len(await peer.message()) for _ in range(100)]
        assert (1000, "") == await peer.closed()


async def test_a_slow_client_is_not_aborted_while_it_reads():
    """Even after the application has closed: its messages arrive, and the close after them."""

    async def app(scope, receive, send):
        await accept(receive, send)
        for _ in range(8):
            await send({"type": "websocket.send", "bytes": b"x" * 50_000})

    async with served(app, handshake(), send_buffer=10_000, timeouts={"write": "10s"}) as (worker, client):
        peer = Peer(worker, client, await client.head(), [])
        for _ in range(8):
            assert 50_000 == len(await peer.message())
            worker.pass_time(8)

        assert (1000, "") == await peer.closed()


async def test_a_client_that_reads_nothing_is_aborted():
    """After `timeouts.write`; send() raises OSError."""
    said = []

    async def app(scope, receive, send):
        await accept(receive, send)
        try:
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 50_000})
        except OSError as error:
            said.append(error)

    async with served(app, handshake(), send_buffer=10_000, timeouts={"write": "10s"}) as (worker, client):
        await client.head()
        [websocket] = worker.websockets
        await until(lambda: websocket.writer.is_paused, "the transport is full")
        worker.pass_time(10.1)  # the kernel has taken bytes since the head was read, so this tick sees progress
        worker.pass_time(10.1)
        await all_closed(worker)

        assert {"timeout write": 1, "close 1006": 1}.items() <= worker.counts.items()
        await until(lambda: said)


async def test_reading_pauses_if_the_client_does_not_read():
    """Otherwise the pongs to its pings would fill the memory."""
    async with served(echo, handshake(), send_buffer=10_000) as (worker, client):
        peer = Peer(worker, client, await client.head(), [])
        [websocket] = worker.websockets
        flooding = asyncio.ensure_future(peer.send_raw(masked(0x89, b"x" * 125) * 40_000))
        await until(lambda: websocket.writer.is_paused, "the transport is full")
        await until(lambda: websocket in worker.paused_connections, "reading has paused")
        await turns()

        assert websocket.writer.unsent < 1_000_000
        assert not flooding.done()
        flooding.cancel()


async def test_an_endless_send_does_not_block_the_loop():
    async def app(scope, receive, send):
        await accept(receive, send)
        if scope["path"] == "/endless":
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 1000})

    async with opened(app, "/endless") as (worker, peer):

        async def read() -> None:
            while await peer.frame():
                pass

        reading = asyncio.ensure_future(read())
        assert (1000, "") == await (await connect(worker)).closed()
        reading.cancel()


# -- pings -------------------------------------------------------------------------------------------------------------


async def test_an_idle_client_gets_pings_and_stays_if_it_responds():
    """Each `ping_interval`, unless other bytes arrive."""
    async with opened(echo) as (worker, peer):
        for _ in range(3):
            worker.pass_time(20.1)
            assert b"" == await peer.ping()
            [websocket] = worker.websockets
            await until(lambda: not waits_for_pong(websocket), "the pong has arrived")  # noqa: B023 - awaited here
        await peer.send("still here")

        assert "still here" == await peer.message()


@pytest.mark.parametrize("timeout_s", [3, 12])
async def test_an_unanswered_ping_closes_with_1011(timeout_s):
    """After `ping_timeout`, shorter or longer than `ping_interval`; the application receives the code."""
    app = Listener()
    async with opened(app, websocket={"ping_interval": "5s", "ping_timeout": f"{timeout_s}s"}) as (worker, peer):
        worker.pass_time(5.1)
        worker.pass_time(timeout_s - 0.2)
        assert [True] == [is_open(websocket) for websocket in worker.websockets]
        worker.pass_time(0.3)

        assert 1011 == (await peer.closed())[0]
        peer.client.close()
        await all_closed(worker)
        assert 1011 == app.heard[-1]["code"]
        assert 1 == worker.counts["close 1011"]


async def test_a_part_of_a_frame_counts_as_a_pong():
    """A client cannot send a pong within a long frame. Silence after half a frame is still silence."""
    async with opened(Listener(), websocket={"ping_interval": "5s", "ping_timeout": "3s"}) as (worker, peer):
        [websocket] = worker.websockets
        await peer.send_raw(masked(0x82, b"", length=1000))
        for _ in range(5):
            worker.pass_time(5.1)
            assert waits_for_pong(websocket)
            await peer.send_raw(b"x")
            await until(lambda: not waits_for_pong(websocket), "a part of it has arrived")
        worker.pass_time(5.1)
        worker.pass_time(3.1)

        assert 1011 == (await peer.closed())[0]


async def test_pings_can_be_switched_off():
    """Then a client may be silent forever. With `ping_timeout` off it gets pings and need not respond."""
    async with opened(echo, websocket={"ping_interval": "off"}) as (worker, peer):
        worker.pass_time(1e6)
        await peer.send("x")
        assert "x" == await peer.message()
        assert not peer.pings
    async with opened(echo, websocket={"ping_timeout": "off"}) as (worker, peer):
        for _ in range(3):
            worker.pass_time(20.1)
        await peer.send("x")
        assert "x" == await peer.message()
        assert 3 == len(peer.pings)


async def test_no_ping_timeout_while_reading_is_paused():
    """The pong may wait in the kernel."""
    step = asyncio.Event()

    async def app(scope, receive, send):
        await accept(receive, send)
        await step.wait()
        await echo_on(receive, send)

    async def echo_on(receive, send):
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})

    async with opened(app, websocket={"queue": 2}) as (worker, peer):
        await _send_all(peer, ["a", "b", "c"])
        await until(lambda: worker.paused_connections, "reading has paused")
        for _ in range(5):
            worker.pass_time(30)
        step.set()

        assert ["a", "b", "c"] == [await peer.message() for _ in range(3)]


@pytest.mark.parametrize(
    "sent",
    [
        masked(0x8A, b"") * 4000,
        masked(0x89, b"") * 4000,
        masked(0x01, b"") + masked(0x00, b"") * 4000,
        masked(0x81, b"a") * 4000,
        masked(0xC2, _zeros(15)[:-4]),
        masked(0xC2, _zeros(1)[:-4]) * 15,
    ],
    ids=["pongs", "pings", "fragments", "messages", "a large message", "large messages"],
)
async def test_one_read_of_frames_is_decoded_in_several_turns(sent):
    """The time of a turn bounds the work of any kind of frame. Each look at the clock takes a quarter of it here."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    app = Listener()
    async with opened(app, "/", "Sec-WebSocket-Extensions: permessage-deflate") as (worker, peer):
        counting = asyncio.ensure_future(count())
        worker.clock.look_s = SHARE_S / 4
        await peer.send_raw(sent + masked(0x89, b"end") + masked(0x88, b""))
        while await peer.pong() != b"end":
            pass
        counting.cancel()

        assert turns > 50


async def test_inflating_messages_do_not_block_others():
    """Sixteen clients send 15 MB each in a few KiB, and each step takes a millisecond. They share one turn."""

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await respond(send)
        else:
            await Listener()(scope, receive, send)

    async with Worker(app) as worker:
        peers = [await _compressed(worker) for _ in range(16)]
        other = await worker.connect()
        worker.clock.look_s = 0.001
        for peer in peers:
            peer.client.push(masked(0xC2, _zeros(15)[:-4]))
        await until(lambda: len(worker.paused_connections) == len(peers), "all wait for their turn")
        began = worker.now()
        await other.get()

        assert worker.now() - began < 0.1
        assert "WEBSOCKET_RECEIVED" not in worker.counts
        for peer in peers:
            await peer.send_close()
        await until(lambda: worker.counts.get("WEBSOCKET_RECEIVED") == len(peers))


async def test_an_application_with_slow_messages_does_not_block_the_loop():
    """Its receive() returns at once while messages wait; after the time of a turn it lets the loop turn."""
    taken = 0

    async def app(scope, receive, send):
        nonlocal taken
        if scope["type"] == "http":
            await respond(send)
            return
        await accept(receive, send)
        while (await receive())["type"] == "websocket.receive":
            worker.work(SHARE_S)
            taken += 1

    async with opened(app) as (worker, peer):
        other = await worker.connect()
        await peer.send_raw(masked(0x81, b"x") * 1000)
        await until(lambda: taken > 3)
        began = worker.now()
        await other.get()

        assert worker.now() - began < 10 * SHARE_S
        await until(lambda: taken == 1000)


async def test_pongs_to_one_read_leave_in_few_writes():
    async with opened(echo) as (_, peer):
        await peer.send_raw(b"".join(masked(0x89, b"%d" % number) for number in range(1000)))

        assert [b"%d" % number for number in range(1000)] == [await peer.pong() for _ in range(1000)]
        await peer.send("on")
        assert "on" == await peer.message()


# -- what a WebSocket shares with HTTP ---------------------------------------------------------------------------------


async def test_a_websocket_is_counted_and_logged_as_a_101():
    """On the board at once; in the access log at its end, with the bytes of its messages and its duration."""
    async with opened(echo, "/chat") as (worker, peer):
        assert {"GET 101": 1, "STARTED": 1, "WEBSOCKETS": 1}.items() <= worker.counts.items()
        assert not worker.access_entries
        await peer.send("12345")
        await peer.message()
        worker.pass_time(5)
        await peer.send_close()
        await peer.closed()
        await all_closed(worker)

        [(_, path, status, size, elapsed)] = worker.access_entries
        assert ("/chat", 101, 5) == (path, status, size)
        assert 5 == elapsed


async def test_a_handshake_counts_against_the_request_limit_and_an_open_websocket_does_not():
    """`limits.requests` bounds work; `limits.connections` bounds connections that wait."""
    async with Worker(echo, limits={"requests": 1}) as worker:
        worker.limit_requests(1, 0, 5.0)
        for _ in range(3):
            peer = await connect(worker)
            assert 101 == peer.status
            await peer.send("x")
            assert "x" == await peer.message()
        await peer.send_close()
        await peer.closed()

        assert 0 == worker.running_requests


async def test_the_request_timeout_covers_the_handshake():
    """An overdue handshake gets a 504; an open WebSocket may stay."""
    never = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        if scope["path"] == "/slow":
            await never.wait()
        await send({"type": "websocket.accept"})
        await receive()

    async with served(app, handshake("/slow"), timeouts={"request": "3s"}) as (worker, slow):
        peer = await connect(worker)
        worker.pass_time(3.1)

        assert 504 == (await slow.response()).status
        await peer.send_ping()
        assert b"" == await peer.pong()


async def test_the_scheme_comes_from_the_proxy():
    """X-Forwarded-Proto has an HTTP scheme; the scope has ws or wss."""
    app = Listener()
    async with Worker(app, proxy={"trusted": ["unix"]}) as worker:
        await connect(worker, "/", "X-Forwarded-Proto: https", "X-Forwarded-For: 203.0.113.7")

        assert ("wss", ("203.0.113.7", 0)) == (app.scope["scheme"], tuple(app.scope["client"]))


async def test_a_draining_worker_closes_with_1012():
    """The application receives it, its send() raises OSError, and a new handshake gets a 503."""
    said = []

    async def app(scope, receive, send):
        await accept(receive, send)
        said.append(await receive())
        try:
            await send({"type": "websocket.send", "text": "x"})
        except OSError:
            said.append("OSError")

    async with opened(app) as (worker, peer):
        other = await worker.connect()
        worker.start_draining()
        worker.close_websockets()

        assert (1012, "service restart") == await peer.closed()
        assert [{"type": "websocket.disconnect", "code": 1012, "reason": "service restart"}, "OSError"] == said
        await other.send(handshake())
        assert 503 == (await other.response()).status
        assert 1 == worker.counts["close 1012"]


async def test_an_accept_within_a_drain_closes_at_once():
    begun, step = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        begun.set()
        await step.wait()
        await send({"type": "websocket.accept"})
        await receive()

    async with served(app, handshake()) as (worker, client):
        await begun.wait()
        worker.start_draining()
        step.set()
        peer = Peer(worker, client, await client.head(), [])

        assert (1012, "service restart") == await peer.closed()
