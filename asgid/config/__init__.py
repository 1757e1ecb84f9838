"""The settings: one frozen model a table of the file, in the order of the file; text -> Config, or every problem.

A key that does nothing in this version is refused, never ignored, and all problems are found in one pass, each with
its place. This file does not know where a text comes from, nor what exists on this machine.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from shlex import quote
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from asgid import address
from asgid.board import MOST_WORKERS
from asgid.config.cross_checks import contradictions
from asgid.config.document import Draft
from asgid.config.other_servers import candidates, example
from asgid.config.reserved_keys import idle_keys
from asgid.config.suggestions import explanation
from asgid.config.toml_lines import KeyPath
from asgid.config.value_types import (
    UNLIMITED,
    AccessFormat,
    Bind,
    Blocked,
    Count,
    CountOrOff,
    Duration,
    DurationOrOff,
    DurationOrZero,
    Environment,
    FilePath,
    Filled,
    HeaderValue,
    Heartbeat,
    Kind,
    Line,
    Octal,
    OptionalPath,
    OutputName,
    Peer,
    RootPath,
    Size,
    SizeOrOff,
    Target,
    TcpBind,
    whole,
)
from asgid.errors import ConfigError


class Table(BaseModel):
    """A table of the file: immutable, and every key in it is known.

    Validators are built when the first text is parsed, and only one, for Config, which holds all tables: one for each
    table would take 0.5 MB more. So a default is constructed, not validated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    @classmethod
    def settings(cls) -> dict[str, FieldInfo]:
        """Return its keys that hold a value; [log.access] inside [log] is a table of its own."""
        return {key: field for key, field in cls.model_fields.items() if field.description}


class App(Table):
    """The application, and the surroundings it is imported in."""

    target: Target = Field(description="the application as module:attribute; the attribute may be dotted; required")
    factory: bool = Field(default=False, description="call the target, without arguments, to get the application")
    interface: Literal["auto", "asgi3", "asgi2", "consumer", "wsgi"] = Field(
        "auto", description="what the application speaks; auto finds out"
    )
    lifespan: Literal["auto", "on", "off"] = Field(
        "auto",
        description="run the application's startup and shutdown; auto: if it knows them, on: it must, off: never",
    )
    root_path: RootPath = Field(
        "", description="the path under which a proxy in front publishes the application, such as /api"
    )
    directory: FilePath = Field(
        ".", description="the application's working directory, and the first place its modules are looked for"
    )
    env: Environment = Field(
        default_factory=dict,
        description=(
            "variables added to the environment of the workers before the application is imported; what Python reads "
            "at its own start, such as PYTHONPATH, belongs into asgid's environment"
        ),
    )


class Listen(Table):
    """A socket that takes requests. The table may stand more than once, one for each address."""

    bind: Bind = Field(
        "127.0.0.1:8000",
        description=(
            "host:port, [v6]:port, :port for all interfaces, unix:/path, unix:@abstract, fd:3 or systemd:NAME; a start "
            "looks a host name up, a reload takes a new one only from /etc/hosts; where nothing is written of "
            "[[listen]], the sockets that systemd passes"
        ),
    )
    name: Line = Field("", description="its label in metrics and logs; the bind text if empty")
    backlog: Annotated[int, whole(1, 65535)] = Field(
        2048, description="connections that may wait to be accepted; the kernel caps it at net.core.somaxconn"
    )
    mode: Octal = Field(0o660, description="permissions of the socket file; unix:/path only")
    owner: Line = Field("", description="user who owns the socket file; unix:/path only")
    group: Line = Field("", description="group of the socket file; unix:/path only")
    proxy_protocol: Literal["off", "v1", "v2", "any"] = Field(
        "off",
        description="versions of the PROXY protocol; each connection must begin with it, and come from proxy.trusted",
    )
    tls: Line = Field("", description="the NAME of the [tls.NAME] table whose certificate it shows")

    @property
    def address(self) -> address.Address:
        """`bind`, parsed."""
        return address.parse(self.bind)

    @property
    def label(self) -> str:
        """What it is called in metrics and logs."""
        return self.name or self.bind


class Workers(Table):
    """How many processes serve, and when one makes room for a new one."""

    count: Annotated[int | Literal["auto"], whole(1, MOST_WORKERS, word="auto", means="auto")] = Field(
        "auto", description="processes that serve; auto: one for each CPU that affinity and cgroup quota leave us"
    )
    threads: Annotated[int, whole(1, 1000)] = Field(
        16,
        description="requests a worker of a WSGI application works on at once, each in a thread; ASGI has no use of it",
    )
    max_requests: CountOrOff = Field(
        0,
        description=(
            "replace a worker after so many requests; 0 never does; it is looked at once a second, so a worker serves "
            "some more"
        ),
    )
    max_requests_jitter: CountOrOff = Field(
        0, description="up to so many requests more, drawn for each worker, so that not all are replaced at once"
    )
    max_memory: SizeOrOff = Field(UNLIMITED, description="replace a worker whose resident memory is above this")
    max_lifetime: DurationOrOff = Field(
        math.inf, description="replace a worker that has served this long, and by chance up to a tenth longer"
    )


class Timeouts(Table):
    """How long asgid waits for workers, for clients and for the application."""

    boot: Duration = Field(60.0, description="for a new worker to import the application and finish its startup")
    heartbeat: Heartbeat = Field(
        30.0,
        description="a worker whose event loop is silent this long has its stacks logged and is replaced",
    )
    blocked: Blocked = Field(2.0, description="an event loop silent this long gets its stack logged, and goes on")
    graceful: DurationOrZero = Field(
        30.0, description="for requests to finish at stop, reload and replacement; 0 cuts them off at once"
    )
    kill: Duration = Field(
        5.0, description="what a worker gets beyond that: SIGABRT after half of it, SIGKILL at its end"
    )
    header: DurationOrOff = Field(
        10.0, description="for the whole header section of a request, from its first byte, or from accept"
    )
    body: DurationOrOff = Field(60.0, description="for the next part of a request body to arrive")
    write: DurationOrOff = Field(60.0, description="for the client to take any of what was sent")
    keep_alive: DurationOrOff = Field(75.0, description="for the next request on an idle connection")
    request: DurationOrOff = Field(
        math.inf, description="for a whole request; then the application is cancelled, with 504 if nothing was sent"
    )
    slow_request: DurationOrOff = Field(
        5.0, description="a request that takes this long is logged once with the stack of its task, and goes on"
    )


class Limits(Table):
    """How much one worker, and one request, may take."""

    connections: Count = Field(
        10000, description="open connections a worker; with so many it accepts no more until one closes"
    )
    requests: CountOrOff = Field(
        0, description="requests a worker works on at once, 0 for no cap; idle connections never count"
    )
    queue: CountOrOff = Field(
        0,
        description=(
            "requests that may wait for a place below that cap; above it 503 with Retry-After; where only "
            "workers.threads is the cap, 0 lets all wait"
        ),
    )
    queue_timeout: Duration = Field(5.0, description="how long a request waits for a place before it gets that 503")
    request_line: Size = Field(8 * 2**10, description="longest request line; a longer one is answered 414")
    header_size: Size = Field(32 * 2**10, description="largest header section; a larger one is answered 431")
    header_count: Count = Field(100, description="most header lines; more are answered 431")
    body: SizeOrOff = Field(UNLIMITED, description="largest request body; a larger one is answered 413")


class Reload(Table):
    """How a new generation of workers takes over at SIGHUP."""

    surge: Annotated[int, whole(1, MOST_WORKERS)] = Field(
        1,
        description=(
            "workers above the count while old and new overlap; with as many as the count no old worker goes before "
            "all new ones serve, and a roll-back keeps the very processes that served"
        ),
    )
    settle: DurationOrZero = Field(
        1.0, description="how long the first new worker must stay well before the others follow; 0 does not wait"
    )


class WebSocket(Table):
    """WebSocket connections."""

    max_message: Size = Field(
        16 * 2**20, description="largest message; a larger one closes the connection with code 1009"
    )
    queue: Count = Field(32, description="messages held for the application before reading pauses")
    ping_interval: DurationOrOff = Field(20.0, description="how often an idle connection is pinged")
    ping_timeout: DurationOrOff = Field(20.0, description="how long a ping may go unanswered")
    compression: bool = Field(default=True, description="accept permessage-deflate where a client offers it")


class Proxy(Table):
    """Which peers may say who the client is, and how they say it."""

    trusted: Annotated[tuple[Peer, ...], Field(strict=False)] = Field(
        ("127.0.0.1", "::1", "unix"),
        description=(
            'peers that may: addresses, networks such as "10.0.0.0/8", "unix" for unix sockets, "*" for everybody; '
            "nobody else is believed"
        ),
    )
    headers: Literal["none", "x-forwarded", "forwarded"] = Field(
        "x-forwarded",
        description=(
            "the headers that say client and scheme: x-forwarded (X-Forwarded-For, X-Forwarded-Proto), forwarded "
            "(RFC 7239) or none; the other family is never read"
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
    """What every response carries, and how files leave."""

    server_header: HeaderValue = Field("asgid", description='value of the Server header; "" sends none')
    date_header: bool = Field(default=True, description="send the Date header")
    sendfile: bool = Field(
        default=False,
        description=(
            "let applications name files that the kernel sends (http.response.pathsend, zerocopysend); only if no "
            "middleware needs to see the bytes of a file"
        ),
    )


class Tls(Table):
    """A certificate, under a NAME that listeners use."""

    cert: Line = Field("", description="file with the certificate and its chain, PEM")
    key: Line = Field("", description="file with the private key, PEM")


class Access(Table):
    """The access log: a line for each answer at its end, with what was sent of it; 499 if the client left before it."""

    enabled: bool = Field(default=True, description="write it")
    output: OutputName = Field("stdout", description="stderr, stdout or the path of a file, followed across rotation")
    format: AccessFormat = Field(
        "combined", description="combined, common, json, or a template: text with fields in braces"
    )


class Log(Table):
    """What asgid says about itself."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least serious lines to write")
    format: Literal["auto", "text", "json"] = Field(
        "auto", description="text for people, json for machines; auto: text on a terminal, else json"
    )
    output: OutputName = Field("stderr", description="stderr, stdout or the path of a file, followed across rotation")
    access: Access = Access.model_construct()


class Metrics(Table):
    """The endpoint of the master: /metrics for Prometheus, /livez, /readyz, /status."""

    enabled: bool = Field(default=True, description="answer on this address")
    bind: TcpBind = Field(
        "127.0.0.1:9464",
        description="its address; if it is in use, asgid does not start where it is written here, and only warns else",
    )


class Control(Table):
    """The socket over which commands reach a running master."""

    socket: FilePath = Field(
        "auto", description="its path; auto: in $RUNTIME_DIRECTORY, /run/asgid or $XDG_RUNTIME_DIR"
    )
    mode: Octal = Field(0o600, description="permissions of the socket file")


class Process(Table):
    """The daemon as the system sees it."""

    name: Filled = Field("asgid", description="shown in the titles of all processes")
    user: Line = Field("", description="user the workers run as; empty: the one who started asgid")
    group: Line = Field("", description="group the workers run as; empty: the first group of that user")
    umask: Octal = Field(0o027, description="permissions that new files of the workers do not get")
    pid_file: OptionalPath = Field("", description="file that holds the pid of the master while it runs; empty: none")


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


#: Every table by its name in a file, in the order of the file; `tls.NAME` is any of [tls].
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


def parse(
    text: str | None,
    source: str,
    *,
    overrides: Mapping[str, str] | None = None,
    binds: Sequence[str] = (),
    target: str | None = None,
    workers: str | None = None,
    faults: Callable[[Config], Iterable[tuple[KeyPath, str]]] = lambda _: (),
) -> Config:
    """Return the settings in `text`, a TOML document; raises ConfigError with every problem, in the order of the file.

    `source` is the file's name, for messages; without a file `text` is None. From the command line come `overrides`
    ("table.key" -> a bare word or a TOML value; a key of [[listen]] is set in each of them), `binds` (they replace all
    [[listen]] tables), `target` and `workers`, which is how many. `faults` finds what else is wrong with settings that
    are right in themselves.
    """
    draft = Draft.read(text, source)
    if target is not None:
        draft.put(("app", "target"), target, "the command line")
    if binds:
        draft.put(("listen",), [], "-b")
        for index, bind in enumerate(binds):
            draft.put(("listen", index), {"bind": bind}, f"-b {bind}")
    draft.document.setdefault("listen", [{}])
    if workers is not None:
        draft.override("workers.count", workers, f"-w {quote(workers)}")
    for name, word in (overrides or {}).items():
        draft.override(name, word)
    try:
        config = Config.model_validate(draft.document)
        found = faults(config)
    except ValidationError as error:
        known = {name: table.settings() for name, table in TABLES.items()}
        found = [(detail["loc"], explanation(detail, known, suggestion)) for detail in error.errors(include_url=False)]
    clashes = contradictions(draft.document, Listen.model_fields["bind"].default)
    for path, message in chain(found, idle_keys(draft.document), clashes):
        draft.note(path, message)
    draft.judge()
    return config


def suggestion(name: str, ours: str, value: str | None, *, is_negated: bool = False) -> str:
    """Return a word or a TOML value for our key `ours`, such as "timeouts.keep_alive", that the settings take: what
    `value` of another server's setting `name` means here, else an example.
    """
    tried = candidates(name, ours, value, is_negated=is_negated)
    return next((word for word in tried if takes(ours, word)), None) or example(ours, _default(ours))


def takes(name: str, word: str) -> bool:
    """Whether the settings take a word or a TOML value for the key of this full name."""
    try:
        if name == "listen.bind":
            parse(None, "", target="a:b", binds=[word])
        else:
            binds = ["unix:/run/asgid.sock"] if name in ("listen.mode", "listen.owner", "listen.group") else []
            parse(None, "", target="a:b", overrides={name: word}, binds=binds)
    except ConfigError:
        return False
    return True


def _default(name: str) -> str:
    """Return the default of a key as a word or a TOML value; "" for a key without one."""
    table, _, key = name.rpartition(".")
    field = TABLES[table].settings().get(key) if table in TABLES else None
    if field is None or field.is_required():
        return ""
    kind = next((each for each in field.metadata if isinstance(each, Kind)), None)
    value = field.get_default(call_default_factory=True)
    shown = kind.write(value) if kind else value
    return shown if isinstance(shown, str) and shown else json.dumps(shown)
