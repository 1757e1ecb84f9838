"""The WebSocket client of the benchmarks: its frames, its handshake, and the messages that it counts."""

import contextlib
import itertools
import select
from types import SimpleNamespace
from typing import Any, Self

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from benchmarks import websocket, websocket_load
from benchmarks.load import LoadError
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.websocket import Opcode

ECHO = Scenario("echo", "", path="/websocket", body=b"x" * 8, answer=b"x" * 8, connections=2, audience=1)
BROADCAST = Scenario("broadcast", "", body=b"x" * 8, answer=b"x" * 8, connections=3, audience=3)
ANSWER = websocket.from_server(Opcode.TEXT, b"0 xxxxxx")
PING = websocket.from_server(Opcode.PING, b"still?")


class Wire:
    """A connection without a socket: `incoming` has the data of the next reads, `sent` that of the writes."""

    def __init__(self, *incoming: bytes, number: int = 0) -> None:
        self.incoming = list(incoming)
        self.sent: list[bytes] = []
        self.is_closed = False
        self.number = number

    def fileno(self) -> int:
        return self.number

    def recv(self, size: int) -> bytes:
        if not self.incoming:
            return b""
        data = self.incoming.pop(0)
        if data[size:]:
            self.incoming.insert(0, data[size:])
        return data[:size]

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)

    def setsockopt(self, *_: object) -> None: ...

    def settimeout(self, _: object) -> None: ...

    def close(self) -> None:
        self.is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Server:
    """A server and an epoll in one: a poll answers the frames of each connection, or sends them to all."""

    def __init__(self, scenario: Scenario) -> None:
        self.wires = [Wire(number=number) for number in range(scenario.connections)]
        self._is_broadcast = scenario.audience > 1
        self._answered = [0] * scenario.connections

    def register(self, _wire: Wire, events: int) -> None:
        assert events == select.EPOLLIN

    def poll(self, _timeout: float) -> list[tuple[int, int]]:
        for wire in self.wires:
            for frame in wire.sent[self._answered[wire.number] :]:
                answer = websocket.from_server(Opcode.TEXT, bytes(text_of(frame)))
                for receiver in self.wires if self._is_broadcast else [wire]:
                    receiver.incoming.append(answer)
            self._answered[wire.number] = len(wire.sent)
        return [(wire.number, select.EPOLLIN) for wire in self.wires if wire.incoming]


def read_by(protocol: ClientProtocol | ServerProtocol, data: bytes) -> Frame:
    protocol.receive_data(data)
    (frame,) = protocol.events_received()
    assert isinstance(frame, Frame)
    return frame


def text_of(frame: bytes) -> bytes:
    """Return the payload that a server reads from the frame of a client."""
    return bytes(read_by(ServerProtocol(state=OPEN), frame).data)


def connections_to(server: Any, scenario: Scenario) -> websocket_load.Connections:
    return websocket_load.Connections(server.wires, server, scenario)


class TestFrames:
    @pytest.mark.parametrize(("length", "head_bytes"), [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)])
    def test_another_library_reads_the_frames(self, length, head_bytes):
        """Of client and server, at each border between the forms of a length; a client adds a mask of four bytes."""
        payload = bytes(letter % 128 for letter in range(length))
        of_client = websocket.from_client(Opcode.TEXT, payload)
        of_server = websocket.from_server(Opcode.TEXT, payload)
        frames = (
            read_by(ServerProtocol(state=OPEN), of_client),
            read_by(ClientProtocol(parse_uri("ws://localhost/"), state=OPEN), of_server),
        )

        assert [head_bytes + 4, head_bytes] == [len(of_client) - length, len(of_server) - length]
        assert [(Opcode.TEXT & 0x0F, True, payload)] * 2 == [(f.opcode, f.fin, bytes(f.data)) for f in frames]

    def test_the_frame_of_a_client_is_masked(self):
        """A server may refuse a frame without a mask. With a mask of zeros a server could skip its work."""
        assert b"x" * 8 not in websocket.from_client(Opcode.TEXT, b"x" * 8)


class TestHandshake:
    def connect(self, monkeypatch, wire: Wire) -> object:
        monkeypatch.setattr("socket.create_connection", lambda *_: wire)
        return websocket.connect(80, "/websocket", 1.0)

    def answer(self, monkeypatch) -> tuple[Request, bytes]:
        """Return the request of the handshake as a server reads it, and the answer of the server."""
        wire = Wire()
        with pytest.raises(ConnectionError):
            self.connect(monkeypatch, wire)
        server = ServerProtocol()
        server.receive_data(wire.sent[0])
        (request,) = server.events_received()
        assert isinstance(request, Request)
        server.send_response(server.accept(request))
        return request, b"".join(server.data_to_send())

    def test_connect_returns_the_connection_if_the_server_accepts(self, monkeypatch):
        request, answer = self.answer(monkeypatch)
        wire = Wire(answer[:20], answer[20:])

        assert wire is self.connect(monkeypatch, wire)
        assert not wire.is_closed
        assert "/websocket" == request.path
        assert "Sec-WebSocket-Extensions" not in request.headers

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"HTTP/1.1 101 ", b"HTTP/1.1 200 "),
            (b"s3pPLMBiTxaQ9kYGzzhZRbK", b"s3pPLMBiTxaQ9kYGzzhZRbk"),
            (b"\r\n\r\n", b"\r\n\r\n\x81\x01x"),
            (b"\r\n\r\n", b"\r\n"),
        ],
        ids=["another status", "the answer to another key", "more than the head", "less than the head"],
    )
    def test_any_other_answer_is_refused(self, old, new, monkeypatch):
        _, answer = self.answer(monkeypatch)
        wire = Wire(answer.replace(old, new))

        with pytest.raises(ConnectionError, match="a WebSocket's handshake was answered by b'HTTP/1"):
            self.connect(monkeypatch, wire)
        assert wire.is_closed


class TestEcho:
    @pytest.mark.parametrize("cut", [1, 2, 5])
    def test_echo_returns_the_payload_of_the_answer(self, cut):
        answer = websocket.from_server(Opcode.TEXT, b"other")
        wire: Any = Wire(answer[:cut], answer[cut:])

        assert b"other" == websocket.echo(wire, b"hello")
        assert b"hello" == text_of(wire.sent[0])

    @pytest.mark.parametrize("answer", [websocket.from_server(Opcode.CLOSE, b"\x03\xf3"), b"", ANSWER])
    def test_an_answer_that_is_not_a_text_of_the_same_length_raises_an_error(self, answer):
        wire: Any = Wire(answer)

        with pytest.raises(ConnectionError, match="a message of 5 bytes was answered by"):
            websocket.echo(wire, b"hello")

    def test_close_sends_1000_and_waits_for_the_answer(self):
        wire: Any = Wire(websocket.from_server(Opcode.CLOSE, b"\x03\xe8"))
        websocket.close(wire)

        assert (b"\x03\xe8", [], True) == (text_of(wire.sent[0]), wire.incoming, wire.is_closed)


class TestReceiver:
    def receiver(self, *incoming: bytes) -> tuple[websocket_load.Receiver, Wire]:
        wire: Any = Wire(*incoming)
        return websocket_load.Receiver(wire, websocket_load.Group(wire, b"0 xxxxxx", 1)), wire

    @pytest.mark.parametrize("cut", range(1, len(ANSWER)))
    def test_an_answer_may_come_in_parts(self, cut):
        receiver, _ = self.receiver(ANSWER[:cut], ANSWER[cut:], ANSWER[:cut], ANSWER[cut:], ANSWER)

        assert [False, True, False, True, True] == [receiver.read() for _ in range(5)]

    @pytest.mark.parametrize("cut", [0, 1, 2, 5])
    @pytest.mark.parametrize("incoming", [PING + ANSWER, ANSWER + PING, ANSWER + PING + ANSWER])
    def test_a_ping_is_answered_and_is_not_counted(self, incoming, cut):
        """It comes before an answer or after it, and one read may have both: uvicorn writes the two at once."""
        start = incoming.index(PING)
        receiver, wire = self.receiver(*filter(None, (incoming[: start + cut], incoming[start + cut :])))
        results = [receiver.read() for _ in range(9) if wire.incoming]

        assert incoming.count(ANSWER) == results.count(True)
        assert [b"still?"] == [text_of(frame) for frame in wire.sent]

    @pytest.mark.parametrize(
        ("incoming", "message"),
        [
            ((ANSWER.replace(b"0", b"1"),), "1 xxxxxx' (10 bytes) came instead of "),
            ((ANSWER[:5], ANSWER), "(15 bytes) came instead of "),
            ((ANSWER + ANSWER,), "(11 bytes) came instead of "),
            ((websocket.from_server(Opcode.CLOSE, b"\x03\xf3"),), "came instead of "),
            ((), "the server closed a WebSocket"),
        ],
        ids=["of another connection", "a part and a whole", "two at once", "a close frame", "the end"],
    )
    def test_other_data_raises_a_load_error(self, incoming, message):
        receiver, _ = self.receiver(*incoming)

        with pytest.raises(LoadError) as raised:
            list(iter(receiver.read, True))
        assert message in str(raised.value)


class TestConnections:
    def test_each_sender_has_its_own_message(self):
        """So an answer to the wrong connection is noticed. The length is that of the scenario."""
        server = Server(ECHO)
        load = connections_to(server, ECHO).run(0)

        assert [[b"0 xxxxxx"], [b"1 xxxxxx"]] == [[text_of(frame) for frame in wire.sent] for wire in server.wires]
        assert (2, 2 * len(ANSWER), {}) == (load.requests, load.received_bytes, load.errors)

    def test_a_broadcast_counts_once_for_each_receiver(self):
        server = Server(BROADCAST)
        load = connections_to(server, BROADCAST).run(0)

        assert [1, 0, 0] == [len(wire.sent) for wire in server.wires]
        assert (3, 3 * len(ANSWER)) == (load.requests, load.received_bytes)

    def test_run_sends_until_the_time_is_over_and_reads_all_answers(self, monkeypatch):
        """The clock advances by a second at each call. The messages are sent at 1, 2, 3 and 4."""
        monkeypatch.setattr(websocket_load, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
        server = Server(BROADCAST)
        load = connections_to(server, BROADCAST).run(5)

        assert 4 == len(server.wires[0].sent)
        assert (12, 6, 1000.0, 1000.0) == (load.requests, load.elapsed_s, load.p50_ms, load.p99_ms)
        assert not any(wire.incoming for wire in server.wires)

    def test_run_raises_a_load_error_if_a_receiver_gets_no_message(self, monkeypatch):
        """The next message waits for all three receivers. Here only two get the first one, so a poll times out."""
        server = Server(BROADCAST)
        connections = connections_to(server, BROADCAST)
        server.wires.pop()

        with pytest.raises(LoadError, match="1 messages did not reach all receivers within 10 s"):
            connections.run(1)
        assert 1 == len(server.wires[0].sent)


class TestClient:
    @contextlib.contextmanager
    def loading(self, monkeypatch, scenario: Scenario, wires: list[Wire]):
        remaining = iter(wires)
        monkeypatch.setattr(websocket, "connect", lambda *_: next(remaining, None) or self.refuse())
        monkeypatch.setattr(select, "epoll", lambda: contextlib.nullcontext(SimpleNamespace(register=lambda *_: None)))
        with websocket_load.client(80, scenario) as drive:
            yield drive

    def refuse(self):
        raise ConnectionRefusedError("nobody listens")

    def test_client_opens_all_connections_before_the_load_and_closes_them_after_it(self, monkeypatch):
        wires = [Wire(number=number) for number in range(2)]
        with self.loading(monkeypatch, ECHO, wires):
            assert [[], []] == [wire.sent for wire in wires]

        assert [[b"\x03\xe8"]] * 2 == [[text_of(frame) for frame in wire.sent] for wire in wires]
        assert all(wire.is_closed for wire in wires)

    def test_a_connection_that_cannot_be_opened_raises_a_load_error(self, monkeypatch):
        wire = Wire()
        with (
            pytest.raises(LoadError, match="with 1 WebSockets open: nobody listens"),
            self.loading(monkeypatch, ECHO, [wire]),
        ):
            pytest.fail("client yielded a function")

        assert wire.is_closed

    def test_a_connection_that_fails_under_load_raises_a_load_error(self, monkeypatch):
        """For example if the kernel does not accept a write in time."""
        wires = [Wire(number=number) for number in range(2)]
        with pytest.raises(LoadError, match="with 2 WebSockets open: too late"), self.loading(monkeypatch, ECHO, wires):
            raise BlockingIOError("too late")

        assert all(wire.is_closed for wire in wires)


@pytest.mark.parametrize("number", [0, 63, 999])
def test_a_message_has_the_length_of_the_body_of_its_scenario(number):
    """The number of the connection replaces the first bytes."""
    body = SCENARIOS["websocket"].body

    assert len(body) == len(websocket_load.message_of(number, body))
