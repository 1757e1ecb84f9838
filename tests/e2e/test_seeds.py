"""The examples that announced the first servers of this kind, in 2017 and 2018, run as they were published.

A comment names each corrected typing error. The delay of one second is in the originals.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.client import Client, get, request
from tests.conftest import Start
from tests.daemon import Daemon, eventually

HELLO = """
def hello_world(message):
    content = b'<html><h1>Hello, world</h1></html>'
    response = {
        'status': 200,
        'headers': [
            [b'content-type', b'text/html'],
            [b'content-length', str(len(content)).encode('ascii')]
        ],
        'content': content
    }
    message['reply_channel'].send(response)
"""
# Published as `sleepy_hello_world(response)`, while its body uses `message`.
SLEEPY = """
import asyncio


def hello_world(message):
    loop = message['channel_layer'].loop
    loop.create_task(sleepy_hello_world(message))


async def sleepy_hello_world(message):
    await asyncio.sleep(1)
    content = b'<html><h1>Hello, world</h1></html>'
    response = {
        'status': 200,
        'headers': [
            [b'content-type', b'text/html'],
            [b'content-length', str(len(content)).encode('ascii')]
        ],
        'content': content
    }
    message['reply_channel'].send(response)
"""
LENGTH = "            [b'content-length', str(len(content)).encode('ascii')]\n"
WITHOUT_LENGTH = HELLO.replace(LENGTH, "")
# Published as `async hello_world(message)`, without def.
_, _, BODY = SLEEPY.replace(LENGTH, "").partition("async def sleepy_hello_world")
COROUTINE = f"import asyncio\n\n\nasync def hello_world{BODY}"
CLASS = """
class HelloWorld:
    def __init__(self, scope):
        pass

    async def __call__(self, receive, send):
        await send({
            'type': 'http.response.start',
            'status': 200,
            'headers': [
                [b'content-type', b'text/plain'],
            ]
        })
        await send({
            'type': 'http.response.body',
            'body': b'Hello, world!',
        })
"""


def serve(start: Start, directory: Path, text: str, target: str = "app:hello_world") -> Daemon:
    module, _, _ = target.partition(":")
    (directory / f"{module}.py").write_text(text)
    return start(target, app={"directory": str(directory)}, workers={"count": 1})


@pytest.mark.parametrize("text", [HELLO, WITHOUT_LENGTH], ids=["with a length", "without"])
def test_a_consumer_answers(start: Start, tmp_path: Path, text: str) -> None:
    daemon = serve(start, tmp_path, text)
    answer = get(daemon.address())

    assert (200, b"<html><h1>Hello, world</h1></html>") == (answer.status, answer.body)
    assert ("text/html", "34") == (answer.headers["content-type"], answer.headers["content-length"])
    assert 0 == daemon.stop()
    assert not daemon.log_events(level="error")


def test_a_consumer_answers_a_request_for_a_websocket_over_http(start: Start, tmp_path: Path) -> None:
    """It supports HTTP alone, and a server may ignore an offer to upgrade (RFC 9110 section 7.8)."""
    daemon = serve(start, tmp_path, HELLO)
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    offer = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
    with Client(daemon.address()) as client:
        client.send(request("GET", "/", offer))

        assert 200 == client.answer().status
    assert not daemon.log_events(level="error")


@pytest.mark.parametrize("text", [SLEEPY, COROUTINE], ids=["in a task", "a coroutine"])
def test_consumers_that_sleep_a_second_run_side_by_side(start: Start, tmp_path: Path, text: str) -> None:
    """Ten requests at once in one worker do not wait for each other: that would take ten seconds."""
    daemon = serve(start, tmp_path, text)
    begun = time.monotonic()
    with ThreadPoolExecutor(10) as clients:
        answers = list(clients.map(lambda _: get(daemon.address()), range(10)))
    elapsed = time.monotonic() - begun

    assert [(200, b"<html><h1>Hello, world</h1></html>")] * 10 == [(each.status, each.body) for each in answers]
    assert 1 <= elapsed < 8
    assert 0 == daemon.stop()
    assert not daemon.log_events(level="error")


def test_a_consumer_whose_task_fails_gets_a_500(start: Start, tmp_path: Path) -> None:
    """With its typing error, as published: the client does not wait for an answer that cannot come."""
    published = SLEEPY.replace("sleepy_hello_world(message):", "sleepy_hello_world(response):")
    daemon = serve(start, tmp_path, published)

    assert 500 == get(daemon.address()).status
    (logged,) = eventually(lambda: daemon.log_events("unhandled in the event loop"))
    assert "NameError: name 'message' is not defined" in logged["stack"]
    assert daemon.log_text().count("NameError") == 1  # Python's logger, which has no handler here, prints nothing


def test_an_asgi_2_class_answers(start: Start, tmp_path: Path) -> None:
    """It sends an HTTP response to a lifespan scope, so it runs without a lifespan."""
    daemon = serve(start, tmp_path, CLASS, "example:HelloWorld")
    answer = get(daemon.address())

    assert (200, "text/plain", b"Hello, world!") == (answer.status, answer.headers["content-type"], answer.body)
    assert 0 == daemon.stop()
    assert not daemon.log_events(level="error")
