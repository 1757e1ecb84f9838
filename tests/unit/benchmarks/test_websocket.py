"""The client of WebSockets that benchmarks load with: frames that others can read, and what counts as heard."""

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
    """A connection without a socket: `incoming` are the reads to come, `sent` is what was written."""

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


class Room:
    """A server and epoll in one: what a connection says, those in `hearers` hear at the next poll."""

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
                for hearer in self.wires if self._is_broadcast else [wire]:
                    hearer.incoming.append(answer)
            self._answered[wire.number] = len(wire.sent)
        return [(wire.number, select.EPOLLIN) for wire in self.wires if wire.incoming]


def read_by(protocol: ClientProtocol | ServerProtocol, data: bytes) -> Frame:
    protocol.receive_data(data)
    (frame,) = protocol.events_received()
    assert isinstance(frame, Frame)
    return frame


def text_of(frame: bytes) -> bytes:
    """What a server reads in a client's frame."""
    return bytes(read_by(ServerProtocol(state=OPEN), frame).data)


def conversation(scenario: Scenario, room: Any) -> websocket_load.Connections:
    return websocket_load.Connections(room.wires, room, scenario)


class TestFrames:
    @pytest.mark.parametrize(("length", "head_bytes"), [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)])
    def test_others_read_what_was_meant(self, length, head_bytes):
        """Both ways, at each border between the kinds of lengths; a client's frame has a mask of four bytes more."""
        payload = bytes(letter % 128 for letter in range(length))
        sent = websocket.from_client(Opcode.TEXT, payload)
        answered = websocket.from_server(Opcode.TEXT, payload)
        read = read_by(ServerProtocol(state=OPEN), sent)
        heard = read_by(ClientProtocol(parse_uri("ws://localhost/"), state=OPEN), answered)

        assert [head_bytes + 4, head_bytes] == [len(sent) - length, len(answered) - length]
        assert [(Opcode.TEXT & 0x0F, True, payload)] * 2 == [(f.opcode, f.fin, bytes(f.data)) for f in (read, heard)]

    def test_what_leaves_is_masked(self):
        """A server may refuse what is not; with a mask of zero it could spare itself the work."""
        assert b"x" * 8 not in websocket.from_client(Opcode.TEXT, b"x" * 8)


class TestHandshake:
    def connect(self, monkeypatch, wire: Wire) -> object:
        monkeypatch.setattr("socket.create_connection", lambda *_: wire)
        return websocket.connect(80, "/websocket", 1.0)

    def answer(self, monkeypatch) -> tuple[Request, bytes]:
        """What a server reads of the handshake, and its answer."""
        asked = Wire()
        with pytest.raises(ConnectionError):
            self.connect(monkeypatch, asked)
        server = ServerProtocol()
        server.receive_data(asked.sent[0])
        (request,) = server.events_received()
        assert isinstance(request, Request)
        server.send_response(server.accept(request))
        return request, b"".join(server.data_to_send())

    def test_a_server_accepts_it_and_it_knows_that(self, monkeypatch):
        """The answer may come in parts. No extension is offered, so none is measured."""
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


class TestConverse:
    @pytest.mark.parametrize("cut", [1, 2, 5])
    def test_what_comes_back_is_told_byte_for_byte(self, cut):
        """Whoever asked judges it."""
        answer = websocket.from_server(Opcode.TEXT, b"other")
        wire: Any = Wire(answer[:cut], answer[cut:])

        assert b"other" == websocket.echo(wire, b"hello")
        assert b"hello" == text_of(wire.sent[0])

    @pytest.mark.parametrize("answer", [websocket.from_server(Opcode.CLOSE, b"\x03\xf3"), b"", ANSWER])
    def test_no_text_of_that_length_is_an_error(self, answer):
        wire: Any = Wire(answer)

        with pytest.raises(ConnectionError, match="a message of 5 bytes was answered by"):
            websocket.echo(wire, b"hello")

    def test_it_takes_its_leave(self):
        """The code is 1000, so no server has a reason to log it; and it waits for the answer."""
        wire: Any = Wire(websocket.from_server(Opcode.CLOSE, b"\x03\xe8"))
        websocket.close(wire)

        assert (b"\x03\xe8", [], True) == (text_of(wire.sent[0]), wire.incoming, wire.is_closed)


class TestListener:
    def listener(self, *incoming: bytes) -> tuple[websocket_load.Receiver, Wire]:
        wire: Any = Wire(*incoming)
        return websocket_load.Receiver(wire, websocket_load.Group(wire, b"0 xxxxxx", 1)), wire

    @pytest.mark.parametrize("cut", range(1, len(ANSWER)))
    def test_an_answer_may_come_in_parts(self, cut):
        """And so may the next one."""
        listener, _ = self.listener(ANSWER[:cut], ANSWER[cut:], ANSWER[:cut], ANSWER[cut:], ANSWER)

        assert [False, True, False, True, True] == [listener.read() for _ in range(5)]

    @pytest.mark.parametrize("cut", [0, 1, 2, 5])
    @pytest.mark.parametrize("incoming", [PING + ANSWER, ANSWER + PING, ANSWER + PING + ANSWER])
    def test_a_ping_is_answered_and_is_no_message(self, incoming, cut):
        """Before an answer or after it, however much of it was read with the answer: uvicorn writes the two at once."""
        start = incoming.index(PING)
        listener, wire = self.listener(*filter(None, (incoming[: start + cut], incoming[start + cut :])))
        heard = [listener.read() for _ in range(9) if wire.incoming]

        assert incoming.count(ANSWER) == heard.count(True)
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
        ids=["another's", "a part and a whole", "two at once", "a closing frame", "the end"],
    )
    def test_anything_else_is_no_result(self, incoming, message):
        listener, _ = self.listener(*incoming)

        with pytest.raises(LoadError) as raised:
            list(iter(listener.read, True))
        assert message in str(raised.value)


class TestConversation:
    def test_each_speaker_says_something_of_its_own(self):
        """So an answer that went to another connection is seen; the length is that of the scenario."""
        room = Room(ECHO)
        load = conversation(ECHO, room).run(0)

        assert [[b"0 xxxxxx"], [b"1 xxxxxx"]] == [[text_of(frame) for frame in wire.sent] for wire in room.wires]
        assert (2, 2 * len(ANSWER), {}) == (load.requests, load.received_bytes, load.errors)

    def test_a_broadcast_counts_for_each_who_hears_it(self):
        """Only the first of them speaks."""
        room = Room(BROADCAST)
        load = conversation(BROADCAST, room).run(0)

        assert [1, 0, 0] == [len(wire.sent) for wire in room.wires]
        assert (3, 3 * len(ANSWER)) == (load.requests, load.received_bytes)

    def test_it_speaks_until_the_time_is_over_and_listens_to_the_end(self, monkeypatch):
        """A clock that is a second on at each look. The first message is begun at 1, the next ones at 2, 3 and 4."""
        monkeypatch.setattr(websocket_load, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
        room = Room(BROADCAST)
        load = conversation(BROADCAST, room).run(5)

        assert 4 == len(room.wires[0].sent)
        assert (12, 6, 1000.0, 1000.0) == (load.requests, load.elapsed_s, load.p50_ms, load.p99_ms)
        assert not any(wire.incoming for wire in room.wires)

    def test_it_speaks_again_when_the_last_has_heard(self, monkeypatch):
        """Two of three have; a poll without news is the end of the load."""
        room = Room(BROADCAST)
        talk = conversation(BROADCAST, room)
        room.wires.pop()

        with pytest.raises(LoadError, match="1 messages did not reach all receivers within 10 s"):
            talk.run(1)
        assert 1 == len(room.wires[0].sent)


class TestClient:
    @contextlib.contextmanager
    def loading(self, monkeypatch, scenario: Scenario, wires: list[Wire]):
        waiting = iter(wires)
        monkeypatch.setattr(websocket, "connect", lambda *_: next(waiting, None) or self.refuse())
        monkeypatch.setattr(select, "epoll", lambda: contextlib.nullcontext(SimpleNamespace(register=lambda *_: None)))
        with websocket_load.client(80, scenario) as drive:
            yield drive

    def refuse(self):
        raise ConnectionRefusedError("nobody listens")

    def test_all_are_opened_before_and_closed_after(self, monkeypatch):
        """None of it is in the time of a load."""
        wires = [Wire(number=number) for number in range(2)]
        with self.loading(monkeypatch, ECHO, wires):
            assert [[], []] == [wire.sent for wire in wires]

        assert [[b"\x03\xe8"]] * 2 == [[text_of(frame) for frame in wire.sent] for wire in wires]
        assert all(wire.is_closed for wire in wires)

    def test_one_that_cannot_be_opened_is_no_result(self, monkeypatch):
        """Those that could be are closed."""
        wire = Wire()
        with (
            pytest.raises(LoadError, match="with 1 WebSockets open: nobody listens"),
            self.loading(monkeypatch, ECHO, [wire]),
        ):
            pytest.fail("it was given a load")

        assert wire.is_closed

    def test_one_that_fails_under_load_is_no_result(self, monkeypatch):
        """A write that the kernel does not take in time is one."""
        wires = [Wire(number=number) for number in range(2)]
        with (
            pytest.raises(LoadError, match="with 2 WebSockets open: too late"),
            self.loading(monkeypatch, ECHO, wires),
        ):
            raise BlockingIOError("too late")

        assert all(wire.is_closed for wire in wires)


@pytest.mark.parametrize("number", [0, 63, 999])
def test_a_message_is_as_long_as_its_scenario_says(number):
    """Whoever says it."""
    body = SCENARIOS["websocket"].body

    assert len(body) == len(websocket_load.message_of(number, body))
