"""The chat example: all members receive each message, and invalid messages reach none of them."""

import json
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.conftest import Start

EXAMPLES = Path(__file__).parents[2] / "examples"


def received(client: ClientConnection) -> object:
    return json.loads(client.recv(timeout=10))


def test_each_message_reaches_all_members(start: Start) -> None:
    """Members also receive their number. A name and a text that are too long are cut."""
    daemon = start("chat:application", app={"directory": str(EXAMPLES)}, workers={"count": 1})
    url = f"ws://{daemon.address()}/"
    with connect(url, proxy=None) as first:
        assert {"here": 1} == received(first)
        with connect(url, proxy=None) as second:
            assert {"here": 2} == received(first) == received(second)
            second.send(json.dumps({"name": "x" * 50, "text": "grüß " * 200}))
            assert {"name": "x" * 30, "text": "grüß " * 100} == received(first) == received(second)
        assert {"here": 1} == received(first)

    assert daemon.log_events("application failed") == []


@pytest.mark.parametrize("sent", ["", "{", b"{}", "[]", '{"name": "a"}', '{"name": [1], "text": "b"}', "[" * 100_000])
def test_an_invalid_message_is_ignored(start: Start, sent: str | bytes) -> None:
    """The sender stays connected, and no member receives the message."""
    daemon = start("chat:application", app={"directory": str(EXAMPLES)}, workers={"count": 1})
    with connect(f"ws://{daemon.address()}/", proxy=None) as client:
        assert {"here": 1} == received(client)
        client.send(sent)
        client.send(json.dumps({"name": "", "text": "on"}))

        assert {"name": "guest", "text": "on"} == received(client)
