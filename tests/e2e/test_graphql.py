"""GraphQL with strawberry: queries over HTTP, and subscriptions over a WebSocket with `graphql-transport-ws`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from socket import SHUT_RDWR
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.conftest import Start
from tests.daemon import WITHIN_S, Daemon, eventually

PROTOCOL = "graphql-transport-ws"


@pytest.fixture(scope="module")
def served(start_shared: Start) -> Iterator[Daemon]:
    daemon = start_shared("in_strawberry:application", workers={"count": 1})
    yield daemon

    assert 0 == daemon.stop()
    assert [] == daemon.log_events(level="error")


@pytest.fixture(autouse=True)
def _room(served: Daemon) -> None:
    """Wait until the room is empty: members from the last test may still be about to leave."""
    eventually(lambda: is_empty(served))


def execute(daemon: Daemon, query: str) -> dict[str, Any]:
    """Return the data of the response to a query or mutation."""
    answer = httpx.post(daemon.url, json={"query": query}, trust_env=False, timeout=WITHIN_S)
    data: dict[str, Any] = answer.json()["data"]
    return data


def send(socket: ClientConnection, kind: str, **fields: object) -> None:
    socket.send(json.dumps({"type": kind, **fields}))


def receive(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(socket.recv(timeout=10))
    return message


@contextmanager
def graphql_socket(daemon: Daemon) -> Iterator[ClientConnection]:
    """Yield a WebSocket after the first two messages of the protocol."""
    with connect(f"ws://{daemon.address()}/", subprotocols=[Subprotocol(PROTOCOL)], proxy=None) as socket:
        assert PROTOCOL == socket.subprotocol
        send(socket, "connection_init")
        assert {"type": "connection_ack"}.items() <= receive(socket).items()
        yield socket


def subscribe(daemon: Daemon, socket: ClientConnection, name: str, query: str = "subscription { said }") -> None:
    """Subscribe, and return when the room has one more member."""
    before = execute(daemon, "{ members }")["members"]
    send(socket, "subscribe", id=name, payload={"query": query})
    eventually(lambda: execute(daemon, "{ members }")["members"] > before)


def is_empty(daemon: Daemon) -> bool:
    return execute(daemon, "{ members }") == {"members": 0}


def test_subscriptions_receive_the_messages_of_mutations(served: Daemon) -> None:
    """Two subscriptions are on one WebSocket, one is on another. Each receives the message with its own id."""
    with graphql_socket(served) as one, graphql_socket(served) as other:
        subscribe(served, one, "first")
        subscribe(served, one, "second")
        subscribe(served, other, "third")
        assert {"say": 3} == execute(served, 'mutation { say(text: "grüße") }')
        received = [receive(one), receive(one), receive(other)]

    assert [
        {"id": name, "type": "next", "payload": {"data": {"said": "grüße"}}} for name in ("first", "second", "third")
    ] == sorted(received, key=lambda message: ("first", "second", "third").index(message["id"]))


def test_a_subscription_ends_from_either_side(served: Daemon) -> None:
    """The application ends the first one, and the client ends the second one. The WebSocket stays open."""
    with graphql_socket(served) as socket:
        subscribe(served, socket, "short", "subscription { said(most: 1) }")
        execute(served, 'mutation { say(text: "once") }')
        ended = [receive(socket)["type"], receive(socket)]
        subscribe(served, socket, "long")
        send(socket, "complete", id="long")
        eventually(lambda: is_empty(served))
        send(socket, "ping")
        answered = receive(socket)

    assert ["next", {"id": "short", "type": "complete"}] == ended
    assert "pong" == answered["type"]


def test_an_invalid_query_ends_only_its_subscription(served: Daemon) -> None:
    """An unknown field is an error of one subscription; the next one works."""
    with graphql_socket(served) as socket:
        send(socket, "subscribe", id="wrong", payload={"query": "subscription { nothing }"})
        refused = receive(socket)
        subscribe(served, socket, "right")
        execute(served, 'mutation { say(text: "still here") }')

        assert ("wrong", "error") == (refused["id"], refused["type"])
        assert {"said": "still here"} == receive(socket)["payload"]["data"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [('{"type": "connection_init"}', 4429), ('{"type": "nonsense"}', 4400), ("no JSON", 4400), (b"bytes", 4400)],
)
def test_a_client_that_breaks_the_protocol_is_closed_with_its_code(
    served: Daemon, sent: str | bytes, code: int
) -> None:
    """The codes are those of `graphql-transport-ws`, and reach the client unchanged."""
    with graphql_socket(served) as socket:
        socket.send(sent)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)

    assert closed.value.rcvd
    assert code == closed.value.rcvd.code


@pytest.mark.parametrize("leave", ["close", "vanish"])
def test_the_subscriptions_of_a_client_that_leaves_end(served: Daemon, leave: str) -> None:
    """Their generators are closed, with and without a close frame."""
    with graphql_socket(served) as socket:
        subscribe(served, socket, "first")
        subscribe(served, socket, "second")
        if leave == "vanish":
            socket.socket.shutdown(SHUT_RDWR)

    eventually(lambda: is_empty(served))
