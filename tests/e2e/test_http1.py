"""HTTP/1.1 over raw sockets: the exact bytes of requests and responses."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.client import Answer, BrokenAnswer, Client, Load, get, in_thread, request
from tests.conftest import Start
from tests.daemon import WITHIN_S, Daemon, eventually

ONE = {"count": 1}
MIB = 1 << 20


@pytest.fixture(scope="module")
def paths(start_shared: Start) -> Daemon:
    return start_shared("path:application", workers=ONE)


@pytest.fixture(scope="module")
def echo(start_shared: Start) -> Daemon:
    return start_shared("echo:application", workers=ONE)


def stalled(progress: Callable[[], int]) -> int:
    """Return the value of `progress` when it is above zero and has been the same in the last twenty calls."""
    seen: list[int] = []

    def is_constant() -> int:
        seen.append(progress())
        last = seen[-20:]
        return last[0] if len(last) == 20 and set(last) == {last[0]} else 0

    return eventually(is_constant)


# Connections


def test_a_connection_is_kept_for_more_requests(paths: Daemon) -> None:
    with Client(paths.address()) as client:
        bodies = [client.get(f"/{number}").body for number in range(100)]

    assert [f"GET /{number} 0".encode() for number in range(100)] == bodies


def test_connection_close_ends_the_connection(paths: Daemon) -> None:
    with Client(paths.address()) as client:
        answer = client.get("/", Connection="close")

        assert answer.closes
        assert client.rest() == b""


def test_pipelined_requests_are_answered_in_order(paths: Daemon) -> None:
    posts = [request("POST", f"/{n}", {"Content-Length": str(n)}) + b"x" * n for n in range(20)]

    with Client(paths.address()) as client:
        client.send(b"".join(posts))
        bodies = [client.answer().body for _ in posts]

    assert [f"POST /{n} {n}".encode() for n in range(20)] == bodies


def test_a_request_may_come_in_single_bytes(paths: Daemon) -> None:
    with Client(paths.address()) as client:
        for byte in request("POST", "/slowly", {"Content-Length": "3"}) + b"abc":
            client.send(bytes([byte]))
        answer = client.answer()

    assert answer.body == b"POST /slowly 3"


def test_http_1_0_without_keep_alive_ends_with_the_connection(paths: Daemon) -> None:
    """An HTTP/1.0 request without a Host gets a response, and the connection ends."""
    with Client(paths.address()) as client:
        client.send(b"POST /old HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")

        assert client.answer().body == b"POST /old 5"
        assert client.rest() == b""


def test_http_1_0_with_keep_alive_is_kept(paths: Daemon) -> None:
    with Client(paths.address()) as client:
        for path in (b"/one", b"/two"):
            client.send(b"GET " + path + b" HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = client.answer()

            assert answer.headers["connection"].lower() == "keep-alive"
            assert answer.body == b"GET " + path + b" 0"


# Bodies


def test_a_chunked_upload_arrives_whole(paths: Daemon) -> None:
    """A body in chunks, with an extension and a trailer, reaches the application without its framing."""
    with Client(paths.address()) as client:
        client.send(request("POST", "/up", {"Transfer-Encoding": "chunked"}))
        client.send(b"5\r\nhello\r\n6;note=x\r\n world\r\n0\r\nX-Trailer: y\r\n\r\n")
        first = client.answer()
        second = client.get("/after")

    assert first.body == b"POST /up 11"
    assert second.body == b"GET /after 0"


def test_a_stream_of_unknown_length_is_chunked(start: Start) -> None:
    """A response without a length is chunked and ends with the last chunk. The connection stays open."""
    daemon = start("pieces:application", workers=ONE)
    with Client(daemon.address()) as client:
        first, second = client.get(), client.get()

    assert first.headers["transfer-encoding"] == "chunked"
    assert first.chunks == second.chunks == (b"one", b"two", b"three")


def test_a_stream_to_http_1_0_ends_with_the_connection(start: Start) -> None:
    """HTTP/1.0 has no chunks: the client receives the plain pieces, and the connection ends the body."""
    daemon = start("pieces:application", workers=ONE)
    with Client(daemon.address()) as client:
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head = client.head()

        assert "transfer-encoding" not in head.headers
        assert head.closes
        assert client.rest() == b"onetwothree"


def test_a_large_body_arrives_whole(echo: Daemon) -> None:
    """A body of 1 MiB, larger than any buffer between client and application, arrives whole in both directions."""
    with Client(echo.address()) as client:
        in_thread(lambda: client.send(request("POST", "/", {"Content-Length": str(MIB)}) + bytes(range(256)) * 4096))
        answer = client.answer()

    assert answer.body == bytes(range(256)) * 4096


def test_pieces_flow_in_both_directions_at_once(echo: Daemon) -> None:
    """The client receives pieces of the response before it has sent the end of its request."""
    with Client(echo.address()) as client:
        client.send(request("POST", "/", {"Transfer-Encoding": "chunked"}))
        echoed: list[bytes] = []
        for word in (b"one", b"two", b"three"):
            client.send(b"%x\r\n%s\r\n" % (len(word), word))
            if not echoed:
                assert client.head().status == 200
            echoed.append(client.chunk())
        client.send(b"0\r\n\r\n")
        last = client.chunk()

    assert echoed == [b"one", b"two", b"three"]
    assert last == b""


def test_head_has_the_headers_of_get_and_no_body(paths: Daemon) -> None:
    """The response to HEAD is that to GET without the body. The next response follows at once."""
    with Client(paths.address()) as client:
        client.send(request("HEAD", "/x") + request("GET", "/x"))
        head, full = client.answer("HEAD"), client.answer()

    assert head.status == full.status
    assert head.headers["content-length"] == str(len("HEAD /x 0"))
    assert full.body == b"GET /x 0"


def test_100_continue_comes_when_the_application_first_reads(paths: Daemon) -> None:
    """A client that waits with its body receives 100 when the application calls `receive()`."""
    with Client(paths.address()) as client:
        client.send(request("POST", "/up", {"Content-Length": "4", "Expect": "100-continue"}))
        interim = client.answer()
        client.send(b"body")
        answer = client.answer()

    assert interim.status == 100
    assert answer.body == b"POST /up 4"


def test_100_continue_does_not_come_from_an_application_that_never_reads(start: Start) -> None:
    """The application responds without reading the body: the first bytes that the client receives are its response."""
    daemon = start("never_reads:application", workers=ONE)

    with Client(daemon.address()) as client:
        client.send(request("POST", "/", {"Content-Length": "4", "Expect": "100-continue"}))
        answer = client.answer()

    assert answer.status == 413


# Back-pressure


def test_a_slow_reader_does_not_grow_the_worker(start: Start) -> None:
    """A stream of 64 MiB stops after a few MiB if its client does not read, and arrives whole when the client reads."""
    daemon = start("flood:application", workers=ONE)
    worker = psutil.Process(daemon.workers()[0])
    before = worker.memory_info().rss

    with Client(daemon.address(), receive_buffer=1 << 16) as slow, Client(daemon.address()) as other:
        slow.send(request("GET", "/"))
        assert slow.head().status == 200
        sent = stalled(lambda: int(other.get("/sent").body))
        grown = worker.memory_info().rss - before
        received = sum(len(chunk) for chunk in iter(slow.chunk, b""))

    assert sent < 16 * MIB
    assert grown < 24 * MIB
    assert received == 64 * MIB


def test_an_application_that_does_not_read_stops_the_sender(start: Start, tmp_path: Path) -> None:
    """A body of 64 MiB that the application does not read fills kernel buffers, not the memory of the worker."""
    gate = tmp_path / "gate"
    daemon = start("hoard:application", workers=ONE, app={"env": {"GATE": str(gate)}})
    worker = psutil.Process(daemon.workers()[0])
    before = worker.memory_info().rss
    sent = 0

    with Client(daemon.address()) as sender, Client(daemon.address()) as other:

        def send() -> None:
            nonlocal sent
            sender.send(request("POST", "/", {"Content-Length": str(64 * MIB)}))
            for _ in range(1024):
                sender.send(bytes(1 << 16))
                sent += 1 << 16

        def progress() -> int:
            assert other.get("/alive").status == 200
            return sent

        thread = in_thread(send)
        stopped_at = stalled(progress)
        grown = worker.memory_info().rss - before
        gate.touch()
        answer = sender.answer()
        thread.join(WITHIN_S)

    assert stopped_at < 32 * MIB  # the kernel's two buffers on loopback hold some of it
    assert grown < 16 * MIB
    assert answer.body == str(64 * MIB).encode()


# Requests that end early


def test_the_application_receives_the_disconnect_of_its_client(start: Start) -> None:
    """An application that waits for http.disconnect receives it. It is counted as a disconnect, not as an error."""
    daemon = start("disconnects:application", workers=ONE)
    clients = [Client(daemon.address()) for _ in range(3)]
    for client in clients:
        client.send(request("GET", "/"))
        assert client.head().status == 200

    for client in clients:
        client.close()

    daemon.eventually(lambda: get(daemon.address(), "/seen").body == b"3")
    daemon.eventually(lambda: daemon.metric("asgid_http_client_disconnects_total") == 3)
    assert daemon.metric("asgid_app_exceptions_total") == 0
    assert daemon.metric("asgid_http_requests_in_flight") == 0


def test_a_client_gets_500_if_the_application_raises(start: Start) -> None:
    """The client gets a full response. The traceback is logged once, and the metric counts the exception."""
    daemon = start("raises:application", workers=ONE)

    answer = get(daemon.address())

    assert answer.status == 500
    assert b"always raises" not in answer.body
    daemon.eventually(lambda: "this application always raises" in daemon.log_text())
    assert daemon.log_text().count("RuntimeError: this application always raises") == 1
    daemon.eventually(lambda: daemon.metric("asgid_app_exceptions_total") == 1)


def test_an_application_that_raises_after_the_start_breaks_the_response(start: Start) -> None:
    """An incomplete response never ends like a complete one."""
    daemon = start("raises:application", workers=ONE)

    with Client(daemon.address()) as client, pytest.raises(BrokenAnswer):
        client.get("/late")


# Rejected requests

MALFORMED = {
    "no request line": b"GARBAGE\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a length that is not a number": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\nx",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "a length and chunks": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "chunks that are not last": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "TLS to a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_gets_400_and_ends_the_connection(paths: Daemon, sent: bytes) -> None:
    """A request that is ambiguous or invalid is rejected, and no later byte of the connection is parsed."""
    with Client(paths.address()) as client:
        client.send(sent)
        answer = client.answer()

        assert answer.status == 400
        assert answer.closes
        assert client.rest() == b""


def test_a_bad_chunk_ends_the_connection(paths: Daemon) -> None:
    with Client(paths.address()) as client:
        client.send(request("POST", "/", {"Transfer-Encoding": "chunked"}) + b"zz\r\n")
        answer = client.answer()

        assert answer.status == 400
        assert client.rest() == b""


OVER = {
    "the request line": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "the size of the headers": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 33_000 + b"\r\n\r\n", 431),
    "the number of headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431),
    "a header of a megabyte": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * MIB + b"\r\n\r\n", 431),
    "five thousand headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 5000 + b"\r\n", 431),
}


@pytest.mark.parametrize(("sent", "status"), OVER.values(), ids=OVER.keys())
def test_a_request_head_over_a_limit_is_rejected(paths: Daemon, sent: bytes, status: int) -> None:
    with Client(paths.address()) as client:
        client.send(sent)
        answer = client.answer()

        assert answer.status == status
        assert answer.closes


def test_an_endless_header_section_is_rejected_while_it_is_sent(paths: Daemon) -> None:
    """A client must not fill the memory with an endless header: the response comes while the client still sends it."""
    with Client(paths.address()) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * MIB)
        answer = client.answer()

    assert answer.status == 431


def test_a_body_over_the_limit_is_rejected(start: Start) -> None:
    daemon = start("path:application", workers=ONE, limits={"body": "1KiB"})

    with Client(daemon.address()) as client:
        client.send(request("POST", "/", {"Content-Length": "1025"}))
        announced = client.answer()
    with Client(daemon.address()) as client:
        client.send(request("POST", "/", {"Transfer-Encoding": "chunked"}) + b"401\r\n" + b"x" * 0x401 + b"\r\n")
        counted = client.answer()

    assert announced.status == 413
    assert counted.status == 413


# Deadlines


def test_a_client_that_never_sends_is_disconnected(start: Start) -> None:
    """timeouts.header closes a silent connection and one with half a header; timeouts.keep_alive closes an idle one.

    Meanwhile the server responds to others. A delayed client would wait as long as those connections stay open.
    """
    daemon = start("hello:application", workers=ONE, timeouts={"header": "1s", "keep_alive": "6s"})
    last_bytes: dict[str, bytes] = {}
    lasted: dict[str, float] = {}
    begun = time.monotonic()

    def watch(name: str, client: Client) -> None:
        last_bytes[name] = client.rest()
        lasted[name] = time.monotonic() - begun

    with (
        Load(daemon.address(), connections=1) as load,
        Client(daemon.address()) as silent,
        Client(daemon.address()) as half,
        Client(daemon.address()) as idle,
    ):
        half.send(b"GET / HTTP/1.1\r\nHost:")
        assert idle.get().body == b"hello"
        clients = {"silent": silent, "half": half, "idle": idle}
        for thread in [in_thread(partial(watch, name, client)) for name, client in clients.items()]:
            thread.join(WITHIN_S)

    assert last_bytes["silent"] in (b"", last_bytes["half"])  # a silent client may receive 408 or nothing
    assert last_bytes["idle"] == b""
    assert 1 <= lasted["silent"] < 6 <= lasted["idle"]  # deadlines are checked once a second
    assert 1 <= lasted["half"] < 6
    assert load.failures == []
    assert max(load.seconds) < 4
    assert daemon.metric("asgid_http_timeouts_total", phase="header") == 2
    assert daemon.metric("asgid_http_timeouts_total", phase="keep_alive") == 1


def test_a_request_that_takes_too_long_gets_504(start: Start) -> None:
    """timeouts.request cancels the application. A client without a response so far gets 504."""
    daemon = start("waits:application", workers=ONE, timeouts={"request": "0.5s"})

    answer = get(daemon.address())

    assert answer.status == 504
    assert daemon.metric("asgid_http_timeouts_total", phase="request") == 1


def test_a_slow_request_is_logged_with_its_stack_and_goes_on(start: Start, tmp_path: Path) -> None:
    """timeouts.slow_request logs the stack of the application once, and cancels nothing."""
    gate = tmp_path / "gate"
    daemon = start(
        "hoard:application", workers=ONE, timeouts={"slow_request": "0.5s"}, app={"env": {"GATE": str(gate)}}
    )
    with Client(daemon.address()) as client:
        client.send(request("GET", "/slow?by=design"))
        daemon.eventually(lambda: daemon.log_events("slow request"))
        gate.touch()

        assert client.answer().body == b"0"
    slow = [event for event in daemon.log_events() if "/slow" in str(event)]
    assert daemon.metric("asgid_slow_requests_total") == 1
    assert len(slow) == 1
    assert "hoard.py" in str(slow[0])


# Limits on connections


def test_a_worker_at_its_connection_limit_stops_accepting_and_rejects_no_client(start: Start, tmp_path: Path) -> None:
    """With limits.connections = 2, a worker serves eight clients, two at a time, and rejects none."""
    gate = tmp_path / "gate"
    daemon = start("gate:application", workers=ONE, limits={"connections": 2}, app={"env": {"GATE": str(gate)}})
    answers: list[Answer] = []
    clients = [in_thread(lambda: answers.append(get(daemon.address()))) for _ in range(8)]

    daemon.eventually(lambda: daemon.metric("asgid_http_requests_in_flight") == 2)
    daemon.eventually(lambda: daemon.metric("asgid_connection_limit_reached_total") >= 1)
    daemon.eventually(lambda: daemon.metric("asgid_listener_backlog_connections") == 6)
    gate.touch()
    for client in clients:
        client.join(WITHIN_S)

    assert [answer.status for answer in answers] == [200] * 8
    assert {b"held most=1", b"held most=2"} >= {answer.body for answer in answers}


# Listeners


def test_several_listeners_serve_side_by_side(start: Start, tmp_path: Path) -> None:
    """One application listens on TCP and on a unix socket. The socket file has its mode, and the master removes it."""
    path = tmp_path / "asgid.sock"
    daemon = start(listen=[{"bind": "127.0.0.1:0"}, {"bind": f"unix:{path}", "mode": "0600"}])

    over_tcp, over_unix = get(daemon.address()), get(f"unix:{path}")

    assert (over_tcp.body, over_unix.body) == (b"hello", b"hello")
    assert path.stat().st_mode & 0o777 == 0o600
    assert daemon.stop() == 0
    assert not path.exists()


def test_the_scope_has_both_addresses(start: Start) -> None:
    """Each is a pair of a host and an integer port (ASGI HTTP specification, "HTTP Connection Scope")."""
    daemon = start("ends:application", workers=ONE)
    host, port = daemon.address().split(":")

    with Client(daemon.address()) as client:
        addresses = client.get().body.decode()

        assert repr([client.socket.getsockname(), (host, int(port))]) == addresses


# Lifespan


def test_the_state_of_lifespan_reaches_requests_and_shutdown_runs(start: Start, tmp_path: Path) -> None:
    farewell = tmp_path / "farewell"
    daemon = start("lifespan:application", workers=ONE, app={"env": {"FAREWELL": str(farewell)}})

    assert get(daemon.address()).body == b"from startup"
    assert daemon.stop() == 0
    assert farewell.exists()
