"""A WebSocket whose client goes without a close, while its application is about to return."""

from tests.worker.harness import Worker, on_a_loop, request, until

HANDSHAKE = request(
    "GET",
    "/",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
)


@on_a_loop
async def test_an_application_that_returns_when_its_client_has_gone_has_not_failed():
    """It is told between the end of the stream and the end of the connection, and there is nothing left to close."""
    told = []

    async def listen(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        told.append(await receive())

    async with Worker(listen) as worker:
        client = await worker.connect_tcp()
        await client.send(HANDSHAKE)
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        client.end()
        await until(lambda: not worker.service.connections)

        assert [{"type": "websocket.disconnect", "code": 1006, "reason": ""}] == told
        assert [] == worker.lines
