"""The example of a chat: who is there hears what is said, and nothing that is not of the room."""

import json
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.conftest import Start

EXAMPLES = Path(__file__).parents[2] / "examples"


def heard(client: ClientConnection) -> object:
    return json.loads(client.recv(timeout=10))


def test_what_one_says_all_hear(start: Start) -> None:
    """And how many there are; lengths are kept."""
    daemon = start("chat:application", app={"directory": str(EXAMPLES)}, workers={"count": 1})
    where = f"ws://{daemon.address()}/"
    with connect(where, proxy=None) as first:
        assert {"here": 1} == heard(first)
        with connect(where, proxy=None) as second:
            assert {"here": 2} == heard(first) == heard(second)
            second.send(json.dumps({"name": "x" * 50, "text": "grüß " * 200}))
            assert {"name": "x" * 30, "text": "grüß " * 100} == heard(first) == heard(second)
        assert {"here": 1} == heard(first)

    assert daemon.log_events("application failed") == []


@pytest.mark.parametrize("sent", ["", "{", b"{}", "[]", '{"name": "a"}', '{"name": [1], "text": "b"}', "[" * 100_000])
def test_what_is_not_of_the_room_is_passed_over(start: Start, sent: str | bytes) -> None:
    """Its sender stays, and nobody hears it."""
    daemon = start("chat:application", app={"directory": str(EXAMPLES)}, workers={"count": 1})
    with connect(f"ws://{daemon.address()}/", proxy=None) as client:
        assert {"here": 1} == heard(client)
        client.send(sent)
        client.send(json.dumps({"name": "", "text": "on"}))

        assert {"name": "guest", "text": "on"} == heard(client)
