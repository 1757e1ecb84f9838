"""The scenarios: the requests to each server, and the exact answer to each of them.

A scenario does not depend on the server or on the load generator.
"""

from dataclasses import dataclass

HELLO = b"hello, world"
LARGE = b"x" * 100 * 1024
UPLOAD = b"x" * 10 * 1024
BLOB = b"x" * 1024 * 1024
FILE = b"x" * 10 * 1024 * 1024
JSON = b'{"message":"hello, world"}'
MESSAGE = b"x" * 64
LONG_MESSAGE = b"x" * 64 * 1024

FILE_VARIABLE = "BENCHMARK_FILE"  #: has the path of the file with FILE, for the application
WAY = b"x-way"  #: the header with the way in which an answer was sent, if there is more than one

#: The fields that a desktop browser sends beside Host when it follows a link: ten lines, about 600 bytes.
BROWSER_HEADERS = (
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    ),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.7"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "https://www.example.org/articles/2025/the-quiet-server?page=2"),
    (
        "Cookie",
        "session=5f3c1e9a7b2d4c6e8f0a1b2c3d4e5f60; csrftoken=Zk3vQ8mN1pR7sT2wX9yB4dF6; theme=dark; seen=1736942400",
    ),
    ("Upgrade-Insecure-Requests", "1"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of request, repeated over `connections` connections as fast as the server answers."""

    name: str
    title: str  #: one line for the report
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""  #: sent with POST, or as a WebSocket's message; empty means GET
    answer: bytes = HELLO  #: the body of every answer, byte for byte
    audience: int = 0  #: the WebSockets that receive each message, including its sender's; 0 for HTTP
    connections: int = 64
    keep_alive: bool = True  #: False: each request opens a connection of its own
    varying: str = ""  #: a header with another value in each of 64 requests, so consecutive requests differ
    pipelined: int = 1  #: requests that a connection sends before it waits for their answers
    app: str = "benchmarks.apps:app"
    framework: str = ""  #: the distribution that the application needs
    workers: int = 1
    has_access_log: bool = False
    players: tuple[str, ...] = ()  #: the servers of this scenario; empty: all that can serve it

    @property
    def method(self) -> str:
        return "POST" if self.body else "GET"

    @property
    def is_websocket(self) -> bool:
        return self.audience > 0

    @property
    def unit(self) -> str:
        """The unit of the count, by which a server's cost is divided."""
        return "message" if self.is_websocket else "request"

    @property
    def status(self) -> int:
        return 101 if self.is_websocket else 200


#: For scenarios in which the slower peers would only add minutes.
_FAST = ("asgid", "uvicorn", "granian", "h2corn")
#: h2corn writes its access log to standard error, with its other lines.
_LOGGING = ("asgid", "uvicorn", "granian")
#: The ASGI servers.
_ASGI = (*_FAST, "gunicorn", "hypercorn")

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("hello", "A small answer, keep-alive"),
        Scenario("access", "The same with an access log, to a file", has_access_log=True, players=_LOGGING),
        Scenario("browser", "The small answer to the ten headers a browser sends", headers=BROWSER_HEADERS),
        Scenario(
            "proxied",
            "The same through a proxy, for another client each time",
            headers=BROWSER_HEADERS,
            varying="X-Forwarded-For",
            players=_FAST,
        ),
        Scenario("large", "100 KiB answered in one chunk", path="/large", answer=LARGE),
        Scenario("echo", "10 KiB posted, read to the end and sent back", path="/echo", body=UPLOAD, answer=UPLOAD),
        Scenario(
            "upload",
            "1 MiB posted, read in chunks",
            path="/upload",
            body=BLOB,
            answer=b"%d" % len(BLOB),
            connections=16,
            players=_FAST,
        ),
        Scenario(
            "download",
            "1 MiB streamed in chunks of 16 KiB",
            path="/download",
            answer=BLOB,
            connections=16,
            players=_FAST,
        ),
        Scenario("connect", "A new connection for every request", headers=(("Connection", "close"),), keep_alive=False),
        Scenario("pipeline", "16 pipelined requests at a time on each connection", pipelined=16, players=_FAST),
        Scenario(
            "file",
            "A file of 10 MiB, by http.response.pathsend if the server has it",
            path="/file",
            answer=FILE,
            connections=8,  # unfinished answers cost CPU and do not count: 8 of a thousand
            players=_FAST,
        ),
        Scenario(
            "starlette",
            "JSON by Starlette",
            app="benchmarks.starlette_app:app",
            framework="starlette",
            answer=JSON,
            players=_FAST,
        ),
        Scenario(
            "fastapi",
            "JSON by FastAPI",
            app="benchmarks.fastapi_app:app",
            framework="fastapi",
            answer=JSON,
            players=_FAST,
        ),
        Scenario(
            "django",
            "JSON by an async view of Django",
            app="benchmarks.django_app:app",
            framework="Django",
            answer=b'{"message": "hello, world"}',
            players=_FAST,
        ),
        Scenario("two", "The small answer from two workers", workers=2, players=_ASGI),
        Scenario(
            "websocket",
            "A message of 64 bytes echoed over a WebSocket",
            path="/websocket",
            body=MESSAGE,
            answer=MESSAGE,
            audience=1,
            players=_ASGI,
        ),
        Scenario(
            "websocket-long",
            "A message of 64 KiB echoed over a WebSocket",
            path="/websocket",
            body=LONG_MESSAGE,
            answer=LONG_MESSAGE,
            audience=1,
            players=_FAST,  # gunicorn unmasks byte by byte in Python: 6 ms per message
        ),
        Scenario(
            "broadcast",
            "A message of 64 bytes sent to 1,000 WebSockets",
            path="/broadcast",
            body=MESSAGE,
            answer=MESSAGE,
            connections=1000,
            audience=1000,
            players=_ASGI,
        ),
    )
}
