"""GraphQL by strawberry: queries over HTTP, subscriptions over the `graphql-transport-ws` protocol, spoken by hand."""

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
    """Each test begins with nobody in the room: who was there in the last one may be about to leave."""
    eventually(lambda: is_empty(served))


def ask(daemon: Daemon, query: str) -> dict[str, Any]:
    """Return what a query or mutation is answered with."""
    answer = httpx.post(daemon.url, json={"query": query}, trust_env=False, timeout=WITHIN_S)
    data: dict[str, Any] = answer.json()["data"]
    return data


def tell(socket: ClientConnection, kind: str, **fields: object) -> None:
    socket.send(json.dumps({"type": kind, **fields}))


def told(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(socket.recv(timeout=10))
    return message


@contextmanager
def conversation(daemon: Daemon) -> Iterator[ClientConnection]:
    """Open a WebSocket, and say what the protocol has first."""
    with connect(f"ws://{daemon.address()}/", subprotocols=[Subprotocol(PROTOCOL)], proxy=None) as socket:
        assert PROTOCOL == socket.subprotocol
        tell(socket, "connection_init")
        assert {"type": "connection_ack"}.items() <= told(socket).items()
        yield socket


def subscribe(daemon: Daemon, socket: ClientConnection, name: str, query: str = "subscription { said }") -> None:
    """Return when the room has one member more."""
    before = ask(daemon, "{ members }")["members"]
    tell(socket, "subscribe", id=name, payload={"query": query})
    eventually(lambda: ask(daemon, "{ members }")["members"] > before)


def is_empty(daemon: Daemon) -> bool:
    return ask(daemon, "{ members }") == {"members": 0}


def test_subscriptions_hear_of_mutations(served: Daemon) -> None:
    """Two on one WebSocket, one on another: each is told under its own name."""
    with conversation(served) as one, conversation(served) as other:
        subscribe(served, one, "first")
        subscribe(served, one, "second")
        subscribe(served, other, "third")
        assert {"say": 3} == ask(served, 'mutation { say(text: "grüße") }')
        heard = [told(one), told(one), told(other)]

    assert [
        {"id": name, "type": "next", "payload": {"data": {"said": "grüße"}}} for name in ("first", "second", "third")
    ] == sorted(heard, key=lambda message: ("first", "second", "third").index(message["id"]))


def test_a_subscription_ends_from_either_side(served: Daemon) -> None:
    """When it has nothing more to say, and when the client wants no more; the WebSocket stays."""
    with conversation(served) as socket:
        subscribe(served, socket, "short", "subscription { said(most: 1) }")
        ask(served, 'mutation { say(text: "once") }')
        ended = [told(socket)["type"], told(socket)]
        subscribe(served, socket, "long")
        tell(socket, "complete", id="long")
        eventually(lambda: is_empty(served))
        tell(socket, "ping")
        answered = told(socket)

    assert ["next", {"id": "short", "type": "complete"}] == ended
    assert "pong" == answered["type"]


def test_a_mistake_is_told_and_costs_nothing_else(served: Daemon) -> None:
    """A field that is not there is an error of one subscription."""
    with conversation(served) as socket:
        tell(socket, "subscribe", id="wrong", payload={"query": "subscription { nothing }"})
        refused = told(socket)
        subscribe(served, socket, "right")
        ask(served, 'mutation { say(text: "still here") }')

        assert ("wrong", "error") == (refused["id"], refused["type"])
        assert {"said": "still here"} == told(socket)["payload"]["data"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('{"type": "connection_init"}', 4429),
        ('{"type": "nonsense"}', 4400),
        ("no JSON", 4400),
        (b"bytes", 4400),
    ],
)
def test_who_breaks_the_protocol_is_closed_with_its_code(served: Daemon, said: str | bytes, code: int) -> None:
    """The codes are GraphQL's, and come to the client as they are."""
    with conversation(served) as socket:
        socket.send(said)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)

    assert closed.value.rcvd
    assert code == closed.value.rcvd.code


@pytest.mark.parametrize("leave", ["close", "vanish"])
def test_a_client_that_leaves_takes_its_subscriptions_with_it(served: Daemon, leave: str) -> None:
    """Their generators are closed, whether it has said goodbye or not."""
    with conversation(served) as socket:
        subscribe(served, socket, "first")
        subscribe(served, socket, "second")
        if leave == "vanish":
            socket.socket.shutdown(SHUT_RDWR)

    eventually(lambda: is_empty(served))
