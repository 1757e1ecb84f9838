"""ASGI 1 consumers: a request becomes a message, and reply messages become a response."""

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import h11
import pytest

from asgid.errors import AppError, ClientDisconnectedError
from asgid.worker.app import asgi1
from asgid.worker.app.asgi1 import MAX_UNSENT_BYTES, MAX_WHOLE_BODY_BYTES, adapt
from tests.worker.client import request
from tests.worker.event_loop import until
from tests.worker.worker import Worker, served

Message = dict[str, Any]
OK: Message = {"status": 200, "content": b"hello"}


def logged_failures(worker: Worker) -> list[str]:
    """Return the last line of each stack trace that was logged as a failure of the application."""
    return [str(line.fields["stack"]).splitlines()[-1] for line in worker.lines if line.event == "application failed"]


async def exchange_one(answering: Callable[[Message], object], bytes_in: bytes = request()) -> tuple[int, bytes]:
    """Return the response of `answering` to one request. AssertionError if the worker logged anything."""
    async with served(adapt(answering), bytes_in) as (worker, client):
        response = await client.response()

        assert not worker.lines
    return response.status, response.body


# -- the request -------------------------------------------------------------------------------------------------------


async def message_and_address(bytes_in: bytes, *, tcp: bool = False) -> tuple[Message, str]:
    """Return the message that a request becomes, and the address of its client (TCP only)."""
    messages: list[Message] = []

    def hello(message: Message) -> None:
        messages.append(dict(message))
        messages[-1].pop("reply_channel").send(OK)

    async with Worker(adapt(hello), app={"root_path": "/shop"}) as worker:
        client = await (worker.connect_tcp() if tcp else worker.connect())
        await client.send(bytes_in)
        await client.response()
        (message,) = messages
        assert message.pop("channel_layer").loop is asyncio.get_running_loop()
        return message, client.address if tcp else ""


async def test_a_request_message_has_the_keys_of_the_drafts():
    """Each key has its documented value; there is no other key."""
    message, _ = await message_and_address(
        request("POST", "/caf%C3%A9/a?b=%20&c", "X-Name: a", "x-name: b", body=b"form")
    )

    assert {
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/shop/café/a",
        "query_string": b"b=%20&c",
        "root_path": "/shop",
        "headers": [[b"host", b"test.invalid"], [b"x-name", b"a"], [b"x-name", b"b"], [b"content-length", b"4"]],
        "body": b"form",
        "client": None,
        "server": None,
    } == message


async def test_client_and_server_are_lists():
    message, address = await message_and_address(request(), tcp=True)

    assert address == "{}:{}".format(*message["client"])
    assert [list, list, "127.0.0.1"] == [type(message["client"]), type(message["server"]), message["server"][0]]


async def test_cookie_fields_are_joined_by_semicolons():
    """A proxy splits the cookies of HTTP/2 into several fields; a comma would not separate cookies."""
    message, _ = await message_and_address(request("GET", "/", "Cookie: a=1", "Accept: x", "Cookie: b=2; c=3"))

    assert [[b"host", b"test.invalid"], [b"accept", b"x"], [b"cookie", b"a=1; b=2; c=3"]] == message["headers"]


@pytest.mark.parametrize("size", [0, 1, 70_000, MAX_WHOLE_BODY_BYTES])
async def test_a_body_up_to_the_limit_comes_whole(size):
    body = b"x" * size
    message, _ = await message_and_address(request("POST", "/", body=body))

    assert body == message["body"]
    assert "body_channel" not in message


async def read_all(message: Message) -> bytes:
    body = message["body"]
    more = "body_channel" in message
    while more:
        part = await message["body_channel"].receive()
        assert not part["closed"]
        body += part["content"]
        more = part["more_content"]
    return bytes(body)


async def tell_size(message: Message) -> None:
    streamed = "body_channel" in message
    body = await read_all(message)
    message["reply_channel"].send({"status": 200, "content": b"%d %d" % (streamed, len(body))})


async def test_a_large_body_comes_in_parts():
    """The first part is in the message; the body channel brings the others."""
    size = 3 * MAX_WHOLE_BODY_BYTES

    assert (200, b"1 %d" % size) == await exchange_one(tell_size, request("POST", "/", body=b"x" * size))


async def test_a_plain_consumer_reads_a_large_body_in_a_task():
    """The consumer has returned long before the body ends."""
    size = 2 * MAX_WHOLE_BODY_BYTES

    def plain(message: Message) -> None:
        message["channel_layer"].loop.create_task(tell_size(message))

    assert (200, b"1 %d" % size) == await exchange_one(plain, request("POST", "/", body=b"x" * size))


async def test_a_body_channel_reports_a_disconnect():
    """The drafts send it before the end of the body."""
    parts: list[Message] = []

    async def read(message: Message) -> None:
        parts.append({"content": message["body"], "closed": False})
        while not parts[-1]["closed"]:
            parts.append(await message["body_channel"].receive())

    async with served(adapt(read)) as (worker, client):
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n" + b"x" * MAX_WHOLE_BODY_BYTES
        )
        await client.send(b"yz")
        await until(lambda: parts)
        client.close()
        await until(lambda: parts[-1]["closed"])

        assert {"content": b"", "closed": True, "more_content": False} == parts[-1]
        assert not worker.lines


async def test_a_body_of_the_limit_is_whole_however_late_its_end_comes():
    """The message has no body channel if no more data can follow."""
    async with served(adapt(tell_size), request("POST", "/", "Transfer-Encoding: chunked")) as (_, client):
        await client.send(b"%x\r\n" % MAX_WHOLE_BODY_BYTES + b"x" * MAX_WHOLE_BODY_BYTES + b"\r\n", b"0\r\n\r\n")

        assert b"0 %d" % MAX_WHOLE_BODY_BYTES == (await client.response()).body


async def test_a_consumer_is_not_called_if_its_client_leaves_within_the_body():
    """Half a body is not a request."""
    async with Worker(adapt(lambda _: pytest.fail("called"))) as worker:
        client = await worker.connect(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        client.close()
        await until(lambda: not worker.running)

        assert not worker.lines


# -- the response ------------------------------------------------------------------------------------------------------


def at_once(message: Message) -> None:
    message["reply_channel"].send(OK)


def by_what_it_returns(message: Message) -> object:
    return message["reply_channel"].send(OK)


def by_the_loop(message: Message) -> None:
    message["channel_layer"].loop.call_soon(message["reply_channel"].send, OK)


def by_a_task(message: Message) -> None:
    message["channel_layer"].loop.create_task(in_a_coroutine(message))


def by_a_task_that_is_returned(message: Message) -> object:
    return asyncio.ensure_future(in_a_coroutine(message))


def by_a_thread(message: Message) -> None:
    threading.Thread(target=message["reply_channel"].send, args=(OK,)).start()


async def in_a_coroutine(message: Message) -> None:
    await asyncio.sleep(0)
    message["reply_channel"].send(OK)


async def without_waiting(message: Message) -> None:
    message["reply_channel"].send(OK)


async def with_await(message: Message) -> None:
    await message["reply_channel"].send(OK)


async def by_a_task_of_a_coroutine(message: Message) -> None:
    asyncio.get_running_loop().call_later(0.001, message["reply_channel"].send, OK)


WAYS = [
    at_once,
    by_what_it_returns,
    by_the_loop,
    by_a_task,
    by_a_task_that_is_returned,
    by_a_thread,
    in_a_coroutine,
    without_waiting,
    with_await,
    by_a_task_of_a_coroutine,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_reply_may_come_at_any_time_and_from_any_thread(way):
    """A consumer may reply within its call or after it: from a callback, a task or a thread."""
    assert (200, b"hello") == await exchange_one(way)


async def test_a_response_of_one_message_has_a_content_length():
    """Its headers keep their order; they may be lists or tuples."""

    def hello(message: Message) -> None:
        headers = [[b"content-type", b"text/html"], (b"x-name", b"value")]
        message["reply_channel"].send({"status": 404, "headers": headers, "content": b"nowhere"})

    async with served(adapt(hello), request()) as (_, client):
        head, body = await client.head(), await client.exactly(7)

        assert head.startswith(
            b"HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\nx-name: value\r\ncontent-length: 7\r\n"
        )
        assert b"nowhere" == body
        assert 200 != (await client.get()).status  # the connection is kept


async def test_a_reply_is_copied_when_it_is_sent():
    """The consumer may reuse its buffer at once."""

    def hello(message: Message) -> None:
        buffer = bytearray(b"hello")
        message["reply_channel"].send({"status": 200, "content": buffer})
        buffer[:] = b"later"

    assert (200, b"hello") == await exchange_one(hello)


async def test_a_status_alone_is_a_response():
    """A reply may omit content and headers."""

    def empty(message: Message) -> None:
        message["reply_channel"].send({"status": 204})

    assert (204, b"") == await exchange_one(empty)


async def test_a_response_to_head_has_no_body():
    """The consumer may send a body or only its length."""

    def promises(message: Message) -> None:
        content = {"content": b"hello"} if message["path"] == "/whole" else {}
        message["reply_channel"].send({"status": 200, "headers": [(b"content-length", b"5")], **content})

    async with served(adapt(promises)) as (_, client):
        for path in ("/whole", "/promise"):
            await client.send(request("HEAD", path))
            response = await client.response("HEAD")

            assert (200, "5", b"") == (response.status, response.headers["content-length"], response.body)


async def test_each_part_leaves_when_it_is_sent():
    """The client has each part before the consumer sends the next one."""
    turn = asyncio.Event()

    async def stream(message: Message) -> None:
        reply = message["reply_channel"]
        reply.send({"status": 200, "more_content": True})
        for part in (b"one", b"two"):
            reply.send({"content": part, "more_content": True})
            await turn.wait()
            turn.clear()
        reply.send({"content": b"end"})

    async with served(adapt(stream), request()) as (worker, client):
        assert b"transfer-encoding: chunked" in await client.head()
        for part in (b"3\r\none\r\n", b"3\r\ntwo\r\n", b"3\r\nend\r\n0\r\n\r\n"):
            assert part == await client.exactly(len(part))
            turn.set()

        assert not worker.lines


async def test_each_thread_keeps_the_order_of_its_parts():
    """No part is lost, and threads call the loop only by its thread-safe methods."""
    asyncio.get_running_loop().set_debug(True)  # asyncio raises in a thread that calls another method

    def send(reply: Any, name: bytes) -> None:
        for number in range(200):
            reply.send({"content": b"%s%03d " % (name, number), "more_content": True})

    def work(reply: Any) -> None:
        threads = [threading.Thread(target=send, args=(reply, name)) for name in (b"a", b"b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        reply.send({})

    def stream(message: Message) -> None:
        message["reply_channel"].send({"status": 200, "more_content": True})
        threading.Thread(target=work, args=(message["reply_channel"],)).start()

    _, body = await exchange_one(stream)
    for name in b"ab":
        assert [b"%c%03d" % (name, number) for number in range(200)] == [
            word for word in body.split() if word[0] == name
        ]


async def test_pipelined_requests_are_answered_in_order():
    def later(message: Message) -> None:
        path = message["path"].encode()
        delay = 0.01 if path == b"/slow" else 0
        message["channel_layer"].loop.call_later(delay, message["reply_channel"].send, {"status": 200, "content": path})

    async with served(adapt(later), request("GET", "/slow") + request("GET", "/quick")) as (_, client):
        assert [b"/slow", b"/quick"] == [(await client.response()).body for _ in range(2)]


# -- what may not be sent ----------------------------------------------------------------------------------------------

PART = {"content": b"abc", "more_content": True}
BEGUN = {"status": 200, **PART}
REFUSED: dict[str, tuple[list[Any], str]] = {
    "no message": ([5], "a reply must be a dict, not int; the response is waiting"),
    "a part before the status": ([PART], "the first reply must have a status; the response is waiting"),
    "text": ([{"status": 200, "content": "hello"}], "content must be bytes, not str; the response is waiting"),
    "a status that is none": ([{"status": 99}], "status 99 is not a final status"),
    "a status that is text": ([{"status": "200"}], "status '200' is not a final status"),
    "a header of text": ([{"status": 200, "headers": [["a", "b"]]}], "a name and a value, both bytes"),
    "a header that injects": ([{"status": 200, "headers": [[b"a", b"b\r\nc: d"]]}], "control character"),
    "more than was promised": (
        [{"status": 200, "headers": [[b"content-length", b"2"]], "content": b"abc"}],
        "1 bytes longer than its content-length",
    ),
    "less than was promised": (
        [{"status": 200, "headers": [[b"content-length", b"4"]], "content": b"abc"}],
        "1 bytes short of its content-length",
    ),
    "a second status": ([BEGUN, {"status": 200}], "only the first reply may have a status; the response is streaming"),
    "a part after the last": ([OK, PART], "the last reply was sent before; the response is complete"),
    "a response after the last": ([OK, OK], "only the first reply may have a status; the response is complete"),
    "text as a part": ([BEGUN, {"content": "abc"}], "content must be bytes, not str; the response is streaming"),
}


@pytest.mark.parametrize(("messages", "why"), REFUSED.values(), ids=REFUSED.keys())
async def test_an_invalid_reply_raises_where_it_is_sent(messages, why):
    """The error names the state of the response. The reply counts as not sent, so a valid one may follow."""
    said: list[str] = []

    def hello(message: Message) -> None:
        reply = message["reply_channel"]
        for each in messages[:-1]:
            reply.send(each)
        with pytest.raises(AppError) as caught:
            reply.send(messages[-1])
        said.append(str(caught.value))
        if len(messages) == 1:
            reply.send(OK)
        elif messages[0] is BEGUN:
            reply.send({"content": b"def"})

    response = await exchange_one(hello)

    assert why in said[0]
    assert (200, b"abcdef" if messages[0] is BEGUN else b"hello") == response


# -- failures ----------------------------------------------------------------------------------------------------------


def raises(message: Message) -> None:
    raise ValueError("no database")


async def raises_later(message: Message) -> None:
    await asyncio.sleep(0)
    raise ValueError("no database")


def raises_after_a_part(message: Message) -> None:
    message["reply_channel"].send(BEGUN)
    raises(message)


@pytest.mark.parametrize("failing", [raises, raises_later, raises_after_a_part], ids=lambda each: each.__name__)
async def test_a_consumer_that_raises_causes_a_500(failing):
    """The failure is logged once; the part that was sent within the call has not left yet."""
    async with served(adapt(failing)) as (worker, client):
        response = await client.get()

        assert 500 == response.status
        assert ["ValueError: no database"] == logged_failures(worker)
        await until(lambda: {asyncio.current_task()} == asyncio.all_tasks(), "nothing of it goes on")


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_consumer_that_raises_after_its_reply_has_responded(is_async):
    def hello(message: Message) -> None:
        at_once(message)
        raises(message)

    async def hello_later(message: Message) -> None:
        hello(message)

    async with served(adapt(hello_later if is_async else hello)) as (worker, client):
        assert b"hello" == (await client.get()).body
        await until(lambda: logged_failures(worker))
        assert ["ValueError: no database"] == logged_failures(worker)


async def test_a_coroutine_that_raises_within_a_stream_aborts_the_connection():
    """The client cannot take half a response for a whole one."""

    async def stream(message: Message) -> None:
        await message["reply_channel"].send(BEGUN)
        raise ValueError("no database")

    async with served(adapt(stream), request()) as (worker, client):
        with pytest.raises(h11.RemoteProtocolError):
            await client.response()

        assert ["ValueError: no database"] == logged_failures(worker)


def forgets_its_channel(message: Message) -> None:
    """Reply nothing and keep no reference to the channel."""


def fails_in_a_task(message: Message) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        with_channel = message["reply_channel"]
        raise asyncio.CancelledError(with_channel)  # the loop logs any other error

    message["channel_layer"].loop.create_task(fail())


def makes_a_ring(message: Message) -> None:
    message["self"] = message
    message["channel_layer"].loop.call_soon(gc.collect)


@pytest.mark.parametrize(
    "forgetful", [forgets_its_channel, fails_in_a_task, makes_a_ring], ids=lambda each: each.__name__
)
async def test_a_request_without_a_reply_channel_left_gets_a_500(forgetful):
    """Garbage collection of the channel ends the request."""
    async with served(adapt(forgetful)) as (worker, client):
        response = await client.get()

        assert 500 == response.status
        assert logged_failures(worker)[0].endswith("the application returned while its response was waiting")


def begins(message: Message) -> None:
    message["reply_channel"].send(BEGUN)


def begins_and_returns_the_channel(message: Message) -> object:
    return message["reply_channel"].send(BEGUN)


async def begins_in_a_coroutine(message: Message) -> None:
    begins(message)


@pytest.mark.parametrize(
    "beginning", [begins, begins_and_returns_the_channel, begins_in_a_coroutine], ids=lambda each: each.__name__
)
async def test_a_stream_without_a_reply_channel_left_is_aborted(beginning):
    """The stream does not stay open forever, and does not end as if it were whole."""
    async with served(adapt(beginning), request()) as (worker, client):
        with pytest.raises(h11.RemoteProtocolError):
            await client.response()

        assert logged_failures(worker)[0].endswith("the application returned while its response was streaming")


async def test_a_consumer_is_cancelled_at_the_request_timeout():
    """`timeouts.request` responds with 504; later replies are dropped."""
    ended: list[object] = []
    replies: list[Any] = []

    async def waits(message: Message) -> None:
        replies.append(message["reply_channel"])
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(asyncio.current_task())

    async with served(adapt(waits), request(), timeouts={"request": "5s"}) as (worker, client):
        await until(lambda: replies)
        worker.pass_time(6)

        assert 504 == (await client.response()).status
        assert 1 == len(ended)
        with pytest.raises(ClientDisconnectedError):
            replies[0].send(OK)


# -- clients that leave, and clients that do not read ------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
async def test_replies_to_a_client_that_has_gone_are_dropped(is_async):
    """A plain call returns; an awaited one raises OSError."""
    replies: list[Any] = []

    def keeps(message: Message) -> None:
        replies.append(message["reply_channel"])

    async def keeps_in_a_coroutine(message: Message) -> None:
        keeps(message)

    async with served(adapt(keeps_in_a_coroutine if is_async else keeps), request(), tcp=True) as (worker, client):
        await until(lambda: replies)
        client.reset()
        await until(lambda: not worker.connections)
        (reply,) = replies
        reply.send(BEGUN)
        await until(lambda: not worker.running)
        for _ in range(3):
            reply.send(PART)
        with pytest.raises(ClientDisconnectedError):
            await reply.send(PART)

        assert not worker.lines


async def test_an_endless_stream_ends_with_its_client():
    """`send` raises, as for an ASGI 3 application; nothing is logged."""
    sent: list[int] = []

    async def ticks(message: Message) -> None:
        message["reply_channel"].send(BEGUN)
        while True:
            message["reply_channel"].send(PART)
            sent.append(1)
            await asyncio.sleep(0)

    async with served(adapt(ticks), request()) as (worker, client):
        await until(lambda: sent)
        client.close()
        await until(lambda: not worker.running)

        assert not worker.lines


async def test_a_half_closed_client_gets_its_response():
    """A client may close its sending side and still read."""
    replies: list[Any] = []

    async with served(adapt(lambda message: replies.append(message["reply_channel"])), request()) as (_, client):
        await until(lambda: replies)
        client.half_close()
        await until(lambda: client.is_reading_stopped)
        replies[0].send(OK)

        assert b"hello" == (await client.response()).body


async def test_an_awaited_send_waits_for_the_client(monkeypatch):
    monkeypatch.setattr(asgi1, "MAX_UNSENT_BYTES", 300_000)
    part = {"content": b"x" * 65536, "more_content": True}
    count = 0

    async def stream(message: Message) -> None:
        nonlocal count
        reply = message["reply_channel"]
        reply.send({"status": 200, "more_content": True})
        while count < 100:
            await reply.send(part)
            count += 1
        reply.send({})

    async with served(adapt(stream), request(), send_buffer=4096) as (worker, client):
        await until(lambda: client.is_writing_paused)
        for _ in range(20):
            await asyncio.sleep(0)

        assert 10 > count
        assert 100 * 65536 == len((await client.response()).body)
        assert not worker.lines


async def test_an_awaited_send_raises_when_its_client_leaves():
    told: list[OSError] = []

    async def stream(message: Message) -> None:
        reply = message["reply_channel"]
        reply.send({"status": 200, "more_content": True})
        try:
            while True:
                await reply.send({"content": b"x" * 65536, "more_content": True})
        except OSError as error:
            told.append(error)

    def plain(message: Message) -> None:
        message["channel_layer"].loop.create_task(stream(message))

    async with served(adapt(plain), request(), send_buffer=4096) as (worker, client):
        await until(lambda: client.is_writing_paused)
        client.close()
        await until(lambda: told)

        assert not worker.lines


def floods(message: Message) -> None:
    message["reply_channel"].send({"status": 200, "more_content": True})
    flood(message)


async def floods_later(message: Message) -> None:
    await message["reply_channel"].send({"status": 200, "more_content": True})
    flood(message)


def flood(message: Message) -> None:
    refused = 0
    for _ in range(10):
        try:
            message["reply_channel"].send({"content": b"x" * 65536, "more_content": True})
        except AppError:
            refused += 1
    assert 5 == refused


@pytest.mark.parametrize("flooding", [floods, floods_later], ids=lambda each: each.__name__)
async def test_a_consumer_that_sends_too_much_gets_an_error_and_its_response_is_aborted(flooding, monkeypatch):
    """All later parts are refused, so none is missing in the middle. If nothing had left, the client gets a 500."""
    monkeypatch.setattr(asgi1, "MAX_UNSENT_BYTES", 300_000)

    async with served(adapt(flooding), request(), send_buffer=4096) as (worker, client):
        if flooding is floods:
            assert 500 == (await client.response()).status
        else:
            with pytest.raises(h11.RemoteProtocolError):
                await client.response()

        (failure,) = logged_failures(worker)
        assert "327680 bytes wait for the client, and the response is streaming; await" in failure


def test_a_whole_body_and_unsent_replies_are_bounded():
    """docs/ states both bounds."""
    assert (1024**2, 16 * 1024**2) == (MAX_WHOLE_BODY_BYTES, MAX_UNSENT_BYTES)
