"""HTTP/1.1 by hand: a test decides and sees every byte, the framing, the order, and the end of the stream.

It accepts no error: a response that ends before its framing does is a BrokenAnswer. It does not know how a valid
request looks.
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from tests.daemon import WITHIN_S


class BrokenAnswer(Exception):  # noqa: N818 - it is what the peer did, and reads so where it is expected
    """The stream ended, or was reset, within a response."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: field names in lower case, `chunks` as they were framed (one if the body was not chunked)."""

    version: str
    status: int
    headers: dict[str, str]
    chunks: tuple[bytes, ...] = ()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


class Client:
    """One connection to `address` ("host:port", "[v6]:port", "unix:/path" or "unix:@name"). Each wait ends after
    `timeout` seconds. `source` is its own address.
    """

    def __init__(
        self, address: str, timeout: float = WITHIN_S, receive_buffer: int | None = None, source: str | None = None
    ) -> None:
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            target: str | tuple[str, int] = re.sub("^@", "\0", address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            self.socket = socket.socket(socket.AF_INET6 if host.startswith("[") else socket.AF_INET)
            target = (host.strip("[]"), int(port))
        if source is not None:
            self.socket.bind((source, 0))
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(target)
        except OSError:
            self.socket.close()
            raise
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    # -- out

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def get(self, path: str = "/", **headers: str) -> Answer:
        """Send GET `path` and return the response."""
        self.send(request("GET", path, headers))
        return self.answer()

    def post(self, body: bytes, path: str = "/") -> Answer:
        self.send(request("POST", path, {"Content-Length": str(len(body))}) + body)
        return self.answer()

    # -- in

    def answer(self, method: str = "GET") -> Answer:
        """Return one whole response to a request of `method`. BrokenAnswer if it is not whole, TimeoutError if none
        comes.
        """
        head = self.head()
        if method == "HEAD" or head.status in (204, 304) or head.status < 200:
            return head
        return Answer(head.version, head.status, head.headers, tuple(self._body(head)))

    def head(self) -> Answer:
        """Read one status line and header section."""
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status = lines[0].split(" ", 2)[:2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        return Answer(version, int(status), headers)

    def chunk(self) -> bytes:
        """Return one chunk of a chunked body; b"" is its end."""
        size = int(self._until(b"\r\n").partition(b";")[0], 16)
        data = self.exactly(size)
        end = self.exactly(2)
        assert end == b"\r\n", f"a chunk of {size} bytes is followed by {end!r}"
        return data

    def exactly(self, size: int) -> bytes:
        """Return `size` bytes."""
        while len(self._unread) < size:
            self._more()
        data, self._unread = self._unread[:size], self._unread[size:]
        return data

    def rest(self) -> bytes:
        """Read to the end of the stream or to a reset."""
        try:
            while True:
                self._more()
        except BrokenAnswer:
            data, self._unread = self._unread, b""
            return data

    def _body(self, head: Answer) -> list[bytes]:
        # RFC 9112, section 6.3, for a client: (1) chunked, (2) a length, (3) up to the end of the stream.
        if head.headers.get("transfer-encoding") == "chunked":
            return list(iter(self.chunk, b""))
        if "content-length" in head.headers:
            return [self.exactly(int(head.headers["content-length"]))]
        return [self.rest()]

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._unread:
            self._more()
        data, _, self._unread = self._unread.partition(mark)
        return data

    def _more(self) -> None:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError as error:
            raise BrokenAnswer(f"{error}, after {self._unread[-200:]!r}") from error
        if not data:
            raise BrokenAnswer(f"end of stream after {self._unread[-200:]!r}")
        self._unread += data


def request(method: str, path: str = "/", headers: Mapping[str, str] | None = None) -> bytes:
    """Return the head of a request, with `Host` unless `headers` have it."""
    fields = {"Host": "test.invalid"} | dict(headers or {})
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def get(address: str, path: str = "/") -> Answer:
    """Send GET `path` on a new connection and return the response."""
    with Client(address) as client:
        return client.get(path, Connection="close")


def is_refused(address: str) -> bool:
    """Return whether connections to `address` are refused; a socket file is then gone."""
    try:
        Client(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


@dataclass
class Load:
    """Keep-alive clients, one a thread, that connect again after `Connection: close`.

    With that field in `headers` each request has a connection of its own. No request is retried, so each one that a
    server drops is in `failures`.
    """

    address: str
    connections: int = 4
    headers: Mapping[str, str] = field(default_factory=dict)
    pause_s: float = 0.002  #: between two requests of one client: the server needs CPU time too
    seconds: list[float] = field(default_factory=list)  #: of each whole request, with a connect
    bodies: set[bytes] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.connections)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(WITHIN_S)

    def _work(self) -> None:
        client: Client | None = None
        while not self._ends.wait(self.pause_s):
            begun = time.monotonic()
            try:
                client = client or Client(self.address)
                answer = client.get(**self.headers)
            except (OSError, BrokenAnswer, ValueError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                if client is not None:
                    client.close()
                client = None
                continue
            self.seconds.append(time.monotonic() - begun)
            self.bodies.add(answer.body)
            if answer.status != 200:
                self.failures.append(f"{answer.status}: {answer.body!r}")
            if answer.closes:
                client.close()
                client = None
        if client is not None:
            client.close()


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Start `work` in a daemon thread and return the thread."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
