"""Forwarding fields on a real connection: the scope, the access line, and several requests."""

import asyncio
import json
from typing import Any

import pytest

from asgid.config.tables import Access
from asgid.log import Log
from asgid.worker.asgi import Receive, Send
from asgid.worker.http.access_log import AccessLog
from tests.worker.apps import Scope, respond
from tests.worker.client import Client, request
from tests.worker.event_loop import until
from tests.worker.worker import Worker, served

TCP = {"trusted": ["127.0.0.1"]}
HEADERS = ("X-Forwarded-For: 192.0.2.1:4711", "X-Forwarded-Proto: https", "X-Forwarded-Host: a.example")


async def scope_of(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with client and scheme of the scope."""
    host = next(value.decode() for name, value in scope["headers"] if name == b"host")
    told = {"client": scope["client"], "scheme": scope["scheme"], "host": host, "path": scope["path"]}
    await respond(send, json.dumps(told).encode())


async def told(client: Client, *headers: str, path: str = "/") -> dict[str, Any]:
    await client.send(request("GET", path, *headers))
    response: dict[str, Any] = json.loads((await client.response()).body)
    return response


async def test_the_scope_has_the_client_behind_the_proxy():
    """It holds for this request only; the next one on the connection has its own."""
    async with served(scope_of, tcp=True, proxy=TCP) as (_, client):
        direct = await told(client)
        forwarded = await told(client, *HEADERS)
        other = await told(client, "X-Forwarded-For: 192.0.2.2")

        assert ("127.0.0.1", "http") == (direct["client"][0], direct["scheme"])
        assert (["192.0.2.1", 4711], "https", "test.invalid") == (
            forwarded["client"],
            forwarded["scheme"],
            forwarded["host"],
        )
        assert (["192.0.2.2", 0], "http") == (other["client"], other["scheme"])
        assert direct == await told(client)


async def test_pipelined_requests_have_their_own_clients():
    """A proxy sends requests of several clients on one connection."""
    async with Worker(scope_of, proxy=TCP) as worker:
        client = await worker.connect_tcp(
            b"".join(request("GET", "/", *lines) for lines in (HEADERS[:1], (), HEADERS[1:2]))
        )
        responses = [json.loads((await client.response()).body) for _ in range(3)]

        assert [("192.0.2.1", "http"), ("127.0.0.1", "http"), ("127.0.0.1", "https")] == [
            (response["client"][0], response["scheme"]) for response in responses
        ]


async def test_a_peer_on_a_unix_socket_is_trusted():
    """By default; the peer has no address."""
    async with Worker(scope_of) as worker, Worker(scope_of, proxy=TCP) as distrustful:
        trusted = await told(await worker.connect(), *HEADERS)
        not_trusted = await told(await distrustful.connect(), *HEADERS)

        assert (["192.0.2.1", 4711], "https") == (trusted["client"], trusted["scheme"])
        assert (None, "http") == (not_trusted["client"], not_trusted["scheme"])


async def test_a_peer_that_resets_before_accept_does_not_pass_for_a_unix_socket():
    """The kernel no longer has its address; its bytes are read."""
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"])

    async with Worker(app, proxy={"trusted": ["unix"]}) as worker:
        await worker.connect_reset(request("GET", "/", *HEADERS))
        await until(lambda: seen)

        assert [None] == seen


async def test_host_and_prefix_are_applied_if_configured():
    """The prefix is a part of the path of this request only."""
    async with served(scope_of, tcp=True, proxy=TCP | {"host": True, "prefix": True}) as (_, client):
        scope = await told(client, "X-Forwarded-Host: a.example", "X-Forwarded-Prefix: /api", path="/b")

        assert ("a.example", "/api/b") == (scope["host"], scope["path"])
        assert "/b" == (await told(client, path="/b"))["path"]


async def test_a_trailer_changes_no_address():
    """Neither of this request nor of the next one: a proxy that filters headers may pass trailers unseen."""
    trailer = b"X-Forwarded-For: 192.0.2.1\r\n\r\n"
    async with Worker(scope_of, proxy=TCP) as worker:
        client = await worker.connect_tcp(
            request("POST", "/", "Transfer-Encoding: chunked") + b"0\r\n" + trailer + request()
        )
        responses = [json.loads((await client.response()).body) for _ in range(2)]

        assert ["127.0.0.1", "127.0.0.1"] == [response["client"][0] for response in responses]


@pytest.mark.parametrize(("form", "line"), [("common", "192.0.2.1 - - ["), ("{client} {path}", "192.0.2.1 /\n")])
async def test_the_access_line_has_the_client_behind_the_proxy(form, line, tmp_path):
    file = tmp_path / "access"
    async with Worker(scope_of, proxy=TCP) as worker:
        log = Log("info", "text", str(tmp_path / "log"))
        access = AccessLog(Access(output=str(file), format=form), log, asyncio.get_running_loop().call_later, 0)
        worker.write_access_lines(access)
        await told(await worker.connect_tcp(), *HEADERS)
        access.close()

        assert file.read_text().startswith(line)
