"""The floor: uvloop answers each read with the same bytes.

It parses no HTTP, so it is not a server, and no server on uvloop can be cheaper. It takes one read for one request,
which is true for requests without a body: each fits in one segment.
"""

import asyncio
import sys
from typing import cast

import uvloop

from benchmarks.scenarios import SCENARIOS, Scenario


class Floor(asyncio.Protocol):
    """One connection: it sends `answer` for each read, and without `keep_alive` it then closes."""

    def __init__(self, answer: bytes, *, keep_alive: bool) -> None:
        self._answer = answer
        self._keep_alive = keep_alive

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # asyncio's type is wider

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - the floor ignores the request
        self._transport.write(self._answer)
        if not self._keep_alive:
            self._transport.close()


async def _serve(port: int, answer: bytes, *, keep_alive: bool) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Floor(answer, keep_alive=keep_alive), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


def answer_to(scenario: Scenario) -> bytes:
    """Return the floor's answer, as long as asgid's to the same request, head included."""
    lines = [
        "HTTP/1.1 200 OK",
        "content-type: text/plain",
        f"content-length: {len(scenario.answer)}",
        *([] if scenario.keep_alive else ["connection: close"]),
        "date: Thu, 01 Jan 1970 00:00:00 GMT",
        "server: asgid",
    ]
    return "\r\n".join([*lines, "\r\n"]).encode() + scenario.answer


def main(port: int, scenario_name: str) -> None:
    """Answer the requests of `scenario_name` on 127.0.0.1 until killed."""
    scenario = SCENARIOS[scenario_name]
    uvloop.run(_serve(port, answer_to(scenario), keep_alive=scenario.keep_alive))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
