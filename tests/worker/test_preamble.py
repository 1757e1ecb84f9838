"""The PROXY header before the first request: its senders, its addresses, and how such a connection ends."""

import asyncio
import json
import socket
from struct import pack
from typing import Any

import pytest

from asgid import board, wire
from asgid.worker.http1.connection import Connection
from tests.worker.apps import mirror, mirrored
from tests.worker.client import Client, request
from tests.worker.event_loop import until
from tests.worker.test_forwarding import scope_of
from tests.worker.worker import Worker

V1 = b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n"
UNKNOWN = b"PROXY UNKNOWN\r\n"
_ADDRESSES = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.9") + pack("!HH", 4711, 443)
_TLS = pack("!BHBI", 0x20, 5, 1, 0)


def v2(command: int = 0x21, family: int = 0x11, rest: bytes = _ADDRESSES) -> bytes:
    return b"\r\n\r\n\0\r\nQUIT\n" + pack("!BBH", command, family, len(rest)) + rest


LOCAL = v2(0x20, 0x00, b"")


async def asked(client: Client, *headers: str) -> dict[str, Any]:
    client.push(request("GET", "/", *headers))
    response: dict[str, Any] = json.loads((await client.response()).body)
    return response


@pytest.mark.parametrize(("header", "scheme"), [(V1, "http"), (v2(), "http"), (v2(rest=_ADDRESSES + _TLS), "https")])
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
async def test_the_scope_has_the_addresses_of_the_header(header, scheme, tcp):
    """For each request of the connection: the one in the same packet and the next one."""
    seen: list[object] = []

    async def app(scope, receive, send):
        seen.append((scope["client"], scope["server"], scope["scheme"]))
        await mirror(scope, receive, send)

    async with Worker(app) as worker:
        client = await worker.connect_behind(tcp=tcp)
        client.push(header + request("GET", "/a"))
        assert mirrored("GET", "/a") == (await client.response()).body
        client.push(request("GET", "/b"))
        assert mirrored("GET", "/b") == (await client.response()).body

        assert [(("192.0.2.1", 4711), ("192.0.2.9", 443), scheme)] * 2 == seen


@pytest.mark.parametrize("header", [V1, v2(rest=_ADDRESSES + _TLS), UNKNOWN, LOCAL])
async def test_a_header_may_come_in_any_pieces(header):
    async with Worker(mirror) as worker:
        client = await worker.connect_behind()
        for byte in header + request("GET", "/a"):
            client.push(bytes([byte]))
            for _ in range(5):
                await asyncio.sleep(0)

        assert mirrored("GET", "/a") == (await client.response()).body


@pytest.mark.parametrize("header", [UNKNOWN, LOCAL])
async def test_a_header_without_addresses_keeps_those_of_the_socket(header):
    """The proxy itself sends the request."""
    async with Worker(scope_of) as worker:
        client = await worker.connect_behind()
        client.push(header)
        response = await asked(client)

        assert ("127.0.0.1", "http") == (response["client"][0], response["scheme"])


@pytest.mark.parametrize(
    ("versions", "data"),
    [
        ("any", request()),
        ("any", b"\x16\x03\x01"),
        ("any", V1.replace(b"192.0.2.1", b"192.0.2.256") + request()),
        ("v1", v2() + request()),
        ("v2", V1 + request()),
        ("any", b"PROXY " + b"x" * 200),
        ("any", v2()[:14] + b"\xff\xff"),
        ("any", v2(rest=_ADDRESSES + b"\x04\xff")),
    ],
)
async def test_a_connection_without_header_is_closed(versions, data):
    """Without a response; it is counted, and logged once."""
    async with Worker(mirror) as worker:
        client = await worker.connect_behind(versions)
        client.push(data)

        assert b"" == await client.rest()
        assert {"ACCEPTED": 1, "error proxy": 1} == worker.counts
        (line,) = worker.lines
        assert ("warning", "connection refused for its PROXY header") == (line.level, line.event)
        assert ("web", "127.0.0.1", 0) == (line.fields["listener"], line.fields["peer"], line.fields["suppressed"])


async def test_an_untrusted_peer_is_closed_whatever_it_sends():
    """Otherwise any client could claim any address."""
    async with Worker(mirror, proxy={"trusted": ["192.0.2.0/24", "unix"]}) as worker:
        for data in (V1 + request(), v2() + request(), LOCAL, request()):
            client = await worker.connect_behind()
            client.push(data)
            assert b"" == await client.rest()

        assert {"ACCEPTED": 4, "error proxy": 4} == worker.counts
        assert ["the peer is not in proxy.trusted"] == [line.fields["reason"] for line in worker.lines]


@pytest.mark.parametrize(
    ("said", "trusted"), [(b"", []), *((said, ["127.0.0.1"]) for said in (b"", LOCAL, UNKNOWN, V1))]
)
@pytest.mark.parametrize("way", [Client.close, Client.reset, Client.half_close])
async def test_a_health_check_is_not_an_error(said, trusted, way):
    """It connects and leaves, perhaps with a reset or after a whole header. Any peer may do so if it sends nothing."""
    async with Worker(mirror, proxy={"trusted": trusted}) as worker:
        client = await worker.connect_behind()
        if said:
            client.push(said)
            await until(lambda: [one for one in worker.connections if isinstance(one, Connection)])
        way(client)
        await until(lambda: not worker.connections)

        assert {"ACCEPTED": 1} == worker.counts
        assert not worker.lines


@pytest.mark.parametrize("trusted", [["127.0.0.1"], ["unix"], ["*"]])
@pytest.mark.parametrize("said", [LOCAL, V1 + request(), request()])
async def test_a_peer_that_resets_before_accept_is_ignored(said, trusted):
    """HAProxy's health checks do so, and the kernel no longer has the address. No error, and no request."""
    async with Worker(mirror, proxy={"trusted": trusted}) as worker:
        await worker.connect_reset(said, "any")
        await until(lambda: not worker.connections)

        assert {"ACCEPTED": 1} == worker.counts
        assert not worker.lines


async def test_an_unfinished_header_is_an_error():
    """A proxy that stops within its header is broken."""
    async with Worker(mirror) as worker:
        client = await worker.connect_behind()
        client.push(V1[:20])
        client.half_close()

        assert b"" == await client.rest()
        assert {"ACCEPTED": 1, "error proxy": 1} == worker.counts
        assert "the connection ended within its PROXY header" == worker.lines[0].fields["reason"]


@pytest.mark.parametrize("data", [b"", V1[:20], V1, V1 + request()[:9]])
async def test_header_and_first_head_have_one_deadline(data):
    """It begins when the connection is accepted."""
    async with Worker(mirror) as worker:
        client = await worker.connect_behind()
        worker.pass_time(6)
        client.push(data)
        for _ in range(20):
            await asyncio.sleep(0)
        worker.pass_time(3)
        assert worker.connections
        worker.pass_time(2)

        said = await client.rest()
        counts = worker.counts
        assert (b"408" in said) == (len(data) > len(V1)) == bool(counts.pop("RESPONSE_BYTES", 0))
        assert {"ACCEPTED": 1, "timeout header": 1} == counts


async def test_a_connection_counts_from_its_accept_to_its_end():
    """It counts once against the limit, before and after its header."""
    async with Worker(mirror, limits={"connections": 2}) as worker:
        first, second = await worker.connect_behind(), await worker.connect_behind()
        await until(lambda: 2 == worker.counted_connections)
        assert (2, 1) == (worker.row[board.CONNECTIONS], worker.paused)

        first.push(V1 + request())
        await first.response()
        assert (2, 2, 1) == (worker.row[board.CONNECTIONS], worker.counted_connections, worker.paused)
        assert (2, 1) == (worker.counts["ACCEPTED"], worker.counts["LIMIT_REACHED"])

        second.close()
        await until(lambda: 1 == worker.counted_connections)
        assert (1, 0) == (worker.row[board.CONNECTIONS], worker.paused)


async def test_a_drain_waits_for_a_header_that_has_begun():
    """Silent connections are closed with the idle ones; one within its header has as long as the grace."""
    async with Worker(mirror) as worker:
        silent, late, never = [await worker.connect_behind() for _ in range(3)]
        late.push(V1[:20])
        never.push(V1[:20])
        await until(lambda: 2 == len([one for one in worker.connections if getattr(one, "_received", b"")]))
        drain = worker.drain()
        drain.order(wire.Drain(grace_s=0.3, linger_s=0.0))
        running = asyncio.ensure_future(drain.run())
        assert b"" == await silent.rest()
        assert 2 == len(worker.connections)

        late.push(V1[20:] + request("GET", "/late"))
        response = await late.response()
        assert (mirrored("GET", "/late"), True) == (response.body, response.closes)
        await running
        assert b"" == await never.rest()
        assert not [count for count in worker.counts if count.startswith(("error", "timeout"))]


async def test_rejections_are_logged_once_a_second():
    async with Worker(mirror) as worker:
        for _ in range(5):
            client = await worker.connect_behind()
            client.push(request())
            assert b"" == await client.rest()
        worker.pass_time(1)
        client = await worker.connect_behind()
        client.push(request())
        assert b"" == await client.rest()

        assert [0, 4] == [line.fields["suppressed"] for line in worker.lines]
        assert 6 == worker.counts["error proxy"]


@pytest.mark.parametrize(
    ("trusted", "client"), [(["127.0.0.1"], "192.0.2.1"), (["127.0.0.1", "192.0.2.1"], "192.0.2.7")]
)
async def test_forwarding_fields_are_trusted_by_the_address_in_the_header(trusted, client):
    """They hold for a proxy behind a load balancer, and not for a client that connects directly."""
    async with Worker(scope_of, proxy={"trusted": trusted}) as worker:
        peer = await worker.connect_behind()
        peer.push(V1)

        assert client == (await asked(peer, "X-Forwarded-For: 192.0.2.7"))["client"][0]


def test_the_header_works_without_uvloop():
    """asyncio's own transports can change their protocol too."""

    async def ask() -> None:
        async with Worker(scope_of) as worker:
            client = await worker.connect_behind()
            client.push(V1)
            assert ["192.0.2.1", 4711] == (await asked(client))["client"]

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(ask())
