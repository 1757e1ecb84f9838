"""The settings: one frozen model for each table of the file, in the order of the file.

A default is a value of the program, ready for use. No model reads a file or checks this machine.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from asgid import address
from asgid.board import MAX_WORKERS
from asgid.config.text_types import (
    AccessFormat,
    AccessOutput,
    Account,
    Bind,
    Environment,
    FilePath,
    HeaderValue,
    LogOutput,
    NonEmptyText,
    Peer,
    PidFile,
    PrintableText,
    RootPath,
    Target,
    TcpBind,
)
from asgid.config.value_types import (
    UNLIMITED,
    Blocked,
    Count,
    CountOrOff,
    Duration,
    DurationOrOff,
    DurationOrZero,
    FileMode,
    Heartbeat,
    Size,
    SizeOrOff,
    integer,
)


class Table(BaseModel):
    """A table of the file: immutable, and without unknown keys.

    Only Config gets a validator, at the first parse; one for each table would take 0.5 MB more. So a default is
    constructed without validation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    @classmethod
    def settings(cls) -> dict[str, FieldInfo]:
        """Return the keys that hold a value; [log.access] inside [log] is a table of its own."""
        return {key: field for key, field in cls.model_fields.items() if field.description}


class App(Table):
    """The application and its environment."""

    target: Target = Field(description="the application as module:attribute; the attribute may be dotted; required")
    factory: bool = Field(default=False, description="call the target without arguments to get the application")
    interface: Literal["auto", "asgi3", "asgi2", "consumer", "wsgi"] = Field(
        "auto", description="interface of the application; auto detects it"
    )
    lifespan: Literal["auto", "on", "off"] = Field(
        "auto",
        description="run the application's startup and shutdown; auto: if it supports them, on: required, off: never",
    )
    root_path: RootPath = Field("", description="path under which a proxy publishes the application, such as /api")
    directory: FilePath = Field(
        ".", description="working directory of the application, and the first place where its modules are searched"
    )
    env: Environment = Field(
        default_factory=dict,
        description=(
            "environment variables that a worker sets before it imports the application; a variable that Python reads "
            "at its start, such as PYTHONPATH, belongs in asgid's own environment"
        ),
    )


class Listen(Table):
    """A socket that accepts connections; one [[listen]] table for each address."""

    bind: Bind = Field(
        "127.0.0.1:8000",
        description=(
            "host:port, [v6]:port, :port for all interfaces, unix:/path, unix:@abstract, fd:3 or systemd:NAME; a start "
            "resolves a host name, a reload finds a new one only in /etc/hosts; without any [[listen]] table, asgid "
            "listens on the sockets that systemd passes"
        ),
    )
    name: PrintableText = Field("", description="label in metrics and logs; empty: the bind text")
    backlog: Annotated[int, integer(1, 65535)] = Field(
        2048, description="max connections that wait to be accepted; the kernel caps it at net.core.somaxconn"
    )
    mode: FileMode = Field(
        0o660,
        description=(
            "permissions of the socket file; unix:/path only; before Linux 6.16 every client that may connect can "
            "block a worker for some seconds"
        ),
    )
    owner: Account = Field("", description="user that owns the socket file, by name or id; unix:/path only")
    group: Account = Field("", description="group of the socket file, by name or id; unix:/path only")
    proxy_protocol: Literal["off", "v1", "v2", "any"] = Field(
        "off",
        description="PROXY protocol versions; each connection must come from proxy.trusted and begin with its header",
    )
    tls: PrintableText = Field("", description="NAME of the [tls.NAME] table with the certificate of this listener")

    @property
    def address(self) -> address.Address:
        """Return `bind`, parsed."""
        return address.parse(self.bind)

    @property
    def label(self) -> str:
        """Return the name of the listener in metrics and logs."""
        return self.name or self.bind


class Workers(Table):
    """The number of worker processes, and when to replace one."""

    count: Annotated[int | Literal["auto"], integer(1, MAX_WORKERS, word="auto", means="auto")] = Field(
        "auto", description="worker processes; auto: one for each CPU that affinity and cgroup quota allow"
    )
    threads: Annotated[int, integer(1, 1000)] = Field(
        16,
        description="max concurrent requests of a WSGI application in one worker, each in a thread; no effect on ASGI",
    )
    max_requests: CountOrOff = Field(
        0,
        description=(
            "replace a worker after this many requests; 0: never; checked once a second, so a worker serves some more"
        ),
    )
    max_requests_jitter: CountOrOff = Field(
        0, description="random extra requests for each worker, at most this many, so that not all are replaced at once"
    )
    max_memory: SizeOrOff = Field(UNLIMITED, description="replace a worker whose resident memory exceeds this")
    max_lifetime: DurationOrOff = Field(
        math.inf, description="replace a worker after this time, plus a random extra of at most a tenth"
    )


class Timeouts(Table):
    """Deadlines for workers, clients and the application."""

    boot: Duration = Field(60.0, description="for a new worker to import the application and complete its startup")
    heartbeat: Heartbeat = Field(
        30.0,
        description="replace a worker whose event loop has not run for this long, and log its stacks",
    )
    blocked: Blocked = Field(2.0, description="log the stack of an event loop that has not run for this long")
    graceful: DurationOrZero = Field(
        30.0, description="for requests to complete at stop, reload and replacement; 0 cancels them at once"
    )
    kill: Duration = Field(
        5.0, description="for a worker to exit after graceful: SIGABRT after half of this time, SIGKILL at its end"
    )
    header: DurationOrOff = Field(
        10.0,
        description="for the whole header section of a request, from its first byte or from accept",
    )
    body: DurationOrOff = Field(60.0, description="for the next part of a request body")
    write: DurationOrOff = Field(60.0, description="for the client to read any part of a response")
    keep_alive: DurationOrOff = Field(75.0, description="for the next request on an idle connection")
    request: DurationOrOff = Field(
        math.inf,
        description="for a whole request; then cancel the application, with a 504 if no response has started",
    )
    slow_request: DurationOrOff = Field(
        5.0, description="log a request that takes this long once, with the stack of its task; the request continues"
    )


class Limits(Table):
    """Limits of one worker and of one request."""

    connections: Count = Field(
        10000, description="max open connections of a worker; a full worker accepts no more until one closes"
    )
    requests: CountOrOff = Field(
        0, description="max concurrent requests of a worker; 0: no limit; idle connections do not count"
    )
    queue: CountOrOff = Field(
        0,
        description=(
            "max requests that wait until that limit allows them; more get a 503 with Retry-After; if only "
            "workers.threads is a limit, 0 lets all requests wait"
        ),
    )
    queue_timeout: Duration = Field(5.0, description="max time that a request waits before it gets that 503")
    request_line: Size = Field(8 * 2**10, description="max length of the request line; a longer one gets a 414")
    header_size: Size = Field(32 * 2**10, description="max size of the header section; a larger one gets a 431")
    header_count: Count = Field(100, description="max number of header lines; more get a 431")
    body: SizeOrOff = Field(UNLIMITED, description="max size of a request body; a larger one gets a 413")


class Reload(Table):
    """How a new generation of workers replaces the old one at SIGHUP."""

    surge: Annotated[int, integer(1, MAX_WORKERS)] = Field(
        1,
        description=(
            "workers above the count while old and new ones overlap; if it equals the count, no old worker stops "
            "before all new ones are ready, and a roll-back keeps all old processes"
        ),
    )
    settle: DurationOrZero = Field(
        1.0, description="time that the first new worker must stay healthy before the others start; 0: no wait"
    )


class WebSocket(Table):
    """WebSocket connections."""

    max_message: Size = Field(
        16 * 2**20, description="max size of a message; a larger one closes the connection with code 1009"
    )
    queue: Count = Field(32, description="messages that are buffered for the application before reading pauses")
    ping_interval: DurationOrOff = Field(20.0, description="interval of the pings on an idle connection")
    ping_timeout: DurationOrOff = Field(20.0, description="max time until the answer to a ping")
    compression: bool = Field(default=True, description="accept permessage-deflate if the client offers it")


class Proxy(Table):
    """The trusted proxies, and the headers in which they send the client's address."""

    trusted: Annotated[tuple[Peer, ...], Field(strict=False)] = Field(
        ("127.0.0.1", "::1", "unix"),
        description=(
            'trusted peers: addresses, networks such as "10.0.0.0/8", "unix" for unix sockets, "*" for every peer; '
            "asgid ignores these headers from all others"
        ),
    )
    headers: Literal["none", "x-forwarded", "forwarded"] = Field(
        "x-forwarded",
        description=(
            "headers with the client's address and the scheme: x-forwarded (X-Forwarded-For, X-Forwarded-Proto), "
            "forwarded (RFC 7239) or none; the other kind is ignored"
        ),
    )
    host: bool = Field(
        default=False,
        description="let X-Forwarded-Host, or host= of Forwarded, replace the Host header; the proxy must set it",
    )
    prefix: bool = Field(
        default=False,
        description="let X-Forwarded-Prefix replace app.root_path; the proxy must set it",
    )


class Http(Table):
    """Headers of every response, and how files are sent."""

    server_header: HeaderValue = Field("asgid", description='value of the Server header; "": no such header')
    date_header: bool = Field(default=True, description="send the Date header")
    sendfile: bool = Field(
        default=False,
        description=(
            "let applications pass files that the kernel sends (http.response.pathsend, zerocopysend); only if no "
            "middleware needs the bytes of a file"
        ),
    )


class Tls(Table):
    """A certificate under a NAME that listeners refer to."""

    cert: PrintableText = Field("", description="file with the certificate and its chain, PEM")
    key: PrintableText = Field("", description="file with the private key, PEM")


class Access(Table):
    """The access log: one line at the end of each response; 499 if the client disconnected before it started."""

    enabled: bool = Field(default=True, description="write the access log")
    output: AccessOutput = Field("stdout", description="stderr, stdout or the path of a file, which may be rotated")
    format: AccessFormat = Field(
        "combined", description="combined, common, json, or a template: text with fields in braces"
    )


class Log(Table):
    """asgid's own log."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="min level of the lines")
    format: Literal["auto", "text", "json"] = Field(
        "auto", description="format of the lines; auto: text on a terminal, else json"
    )
    output: LogOutput = Field("stderr", description="stderr, stdout or the path of a file, which may be rotated")
    access: Access = Access.model_construct()


class Metrics(Table):
    """The HTTP endpoint of the master: /metrics for Prometheus, /livez, /readyz, /status."""

    enabled: bool = Field(default=True, description="serve the endpoint")
    bind: TcpBind = Field(
        "127.0.0.1:9464",
        description="address of the endpoint; if in use, asgid does not start if this key is set, else it only warns",
    )


class Control(Table):
    """The socket for commands to a running master."""

    socket: FilePath = Field(
        "auto", description="path of the socket; auto: in $RUNTIME_DIRECTORY, /run/asgid or $XDG_RUNTIME_DIR"
    )
    mode: FileMode = Field(0o600, description="permissions of the socket file")


class Process(Table):
    """The processes: their names, users and files."""

    name: NonEmptyText = Field("asgid", description="name in the titles of all processes")
    user: Account = Field("", description="user of the workers, by name or id; empty: the user that started asgid")
    group: Account = Field("", description="group of the workers, by name or id; empty: the primary group of that user")
    umask: FileMode = Field(0o027, description="permission bits that new files of the workers do not get")
    pid_file: PidFile = Field("", description="file with the pid of the master while it runs; empty: none")


class Config(Table):
    """All settings."""

    app: App
    listen: Annotated[tuple[Listen, ...], Field(strict=False)] = (Listen.model_construct(),)
    workers: Workers = Workers.model_construct()
    timeouts: Timeouts = Timeouts.model_construct()
    limits: Limits = Limits.model_construct()
    reload: Reload = Reload.model_construct()
    websocket: WebSocket = WebSocket.model_construct()
    proxy: Proxy = Proxy.model_construct()
    http: Http = Http.model_construct()
    tls: dict[str, Tls] = Field(default_factory=dict)
    log: Log = Log.model_construct()
    metrics: Metrics = Metrics.model_construct()
    control: Control = Control.model_construct()
    process: Process = Process.model_construct()


#: Name in a file -> table, in the order of the file; `tls.NAME` stands for each table in [tls].
TABLES: Final[Mapping[str, type[Table]]] = {
    "app": App,
    "listen": Listen,
    "workers": Workers,
    "timeouts": Timeouts,
    "limits": Limits,
    "reload": Reload,
    "websocket": WebSocket,
    "proxy": Proxy,
    "http": Http,
    "tls.NAME": Tls,
    "log": Log,
    "log.access": Access,
    "metrics": Metrics,
    "control": Control,
    "process": Process,
}


def header(table: str) -> str:
    """Return the line that opens the table in a file."""
    return f"[[{table}]]" if table == "listen" else f"[{table}]"
