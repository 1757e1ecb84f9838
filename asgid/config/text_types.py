"""The types of the settings that a file writes as text: names, paths, addresses, templates."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Annotated, TypeAlias

from asgid import address
from asgid.config.spelling import nearest
from asgid.config.value_types import ValueType, quoted

#: The largest uid and gid. The next number is (uid_t) -1, which setresuid(2) and chown(2) take for "no change".
_MAX_ID = 2**32 - 2
#: Words for "nothing" in other programs and formats.
_NOTHING = frozenset({"off", "none", "null", "nil", "no", "false", "disabled", "disable", "devnull"})
_NO_ACCESS_LOG = "to have no access log, write enabled = false in [log.access] (--set log.access.enabled=false)"
_SYSLOG = frozenset({"syslog", "journal", "journald", "systemd", "udp"})
_STREAMS = ("stdout", "stderr")
_STREAM_WORDS = frozenset({"console", "terminal", "true", "on", "yes", "auto", "default", "stdin", "out", "err"})


def _text(name: str, check: Callable[[str], object], example: str) -> ValueType:
    """Return the type of a text for which `check` does not raise ValueError."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"expected text in quotes such as {quoted(example)}, not {quoted(value)}")
        check(value)
        return value

    return ValueType(name, read, {"type": "string"})


def _check_printable(text: str) -> None:
    if not text.isprintable():
        raise ValueError(f"expected text without control characters, not {quoted(text)}")


def _check_non_empty(text: str) -> None:
    _check_printable(text)
    if not text:
        raise ValueError("this must not be empty")


def _read_account(value: object) -> str:
    number: object = value
    if isinstance(value, str):
        _check_printable(value)
        if not (value.isascii() and value.isdecimal()):
            return value
        number = int(value.lstrip("0")[:11] or 0)  # int() refuses thousands of digits
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _MAX_ID:
        return str(number)
    raise ValueError(f'expected a name in quotes such as "www-data" or an id from 0 to {_MAX_ID}, not {quoted(value)}')


_ACCOUNT = ValueType(
    "name or id",
    _read_account,
    {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0, "maximum": _MAX_ID}]},
)


def _check_log_output(text: str) -> None:
    if text.lower() in _NOTHING:
        raise ValueError(f'to have no log, write "/dev/null", not {quoted(text)}; for fewer lines, level = "error"')
    _check_output(text)


def _check_access_output(text: str) -> None:
    if text.lower() in _NOTHING:
        raise ValueError(_NO_ACCESS_LOG)
    _check_output(text)


def _check_output(text: str) -> None:
    """Raise ValueError for a word that would become the name of a file by mistake. A file may have it as "./off"."""
    _check_non_empty(text)
    # In gunicorn and hypercorn, "-" is stdout for the access log and stderr for the other one.
    if text in ("-", ".", ".."):
        raise ValueError(f'{quoted(text)} is not accepted; write "stdout" or "stderr"')
    if text in _STREAMS or ("/" in text and "://" not in text):
        return
    word = text.lower()
    if word.partition(":")[0] in _SYSLOG:
        raise ValueError(
            f'asgid writes to no syslog or journal, so {quoted(text)} is not accepted; write "stderr": systemd passes '
            "it to its journal, and logger(1) reads it from a pipe"
        )
    if word in _STREAM_WORDS or ":" in text or ("." not in text and nearest(word, _STREAMS, 0.8)):
        raise ValueError(f'expected "stdout", "stderr" or the path of a file, not {quoted(text)}')


def _check_pid_file(text: str) -> None:
    _check_printable(text)
    if text.lower() in _NOTHING:
        raise ValueError(f'to have no pid file, write "" or leave the key out, not {quoted(text)}')


def _check_tcp(text: str) -> None:
    if text.lower() in ("", "-", *_NOTHING):
        raise ValueError("to have no metrics, write enabled = false in [metrics] (--set metrics.enabled=false)")
    if not isinstance(address.parse(text, address.METRICS), address.Tcp):
        raise ValueError(f'expected host:port, such as "127.0.0.1:9464", not {quoted(text)}')


def _check_target(text: str) -> None:
    form = 'write "module:attribute", such as "myapp.asgi:application"'
    module, colon, attribute = text.partition(":")
    if "/" in module or module.endswith(".py"):
        folder, _, name = module.removesuffix(".py").rpartition("/")
        directory = folder or "/"
        rest = f', and directory = "{directory}" (--set app.directory={directory})' if "/" in module else ""
        target = f'"{name}:{attribute}"' if attribute else f'"{name}:" and then the name of the application in it'
        raise ValueError(f"{quoted(module)} is a file; write {target}{rest}")
    if not colon:
        parent, _, last = text.rpartition(".")
        # The module that Django generates; gunicorn accepts it without an attribute.
        guess = f"{text}:application" if last in ("asgi", "wsgi") else f"{parent}:{last}"
        question = f'; did you mean "{guess}"?' if parent and last.isidentifier() else ""
        raise ValueError(f"there is no colon in {quoted(text)}; {form}{question}")
    if attribute.endswith("()"):
        raise ValueError(f'write "{text[:-2]}", and factory = true (--set app.factory=true) to have it called')
    if not all(part.isidentifier() for name in (module, attribute) for part in name.split(".")):
        raise ValueError(f"{quoted(text)} is not the name of a Python object; {form}")


def _check_root_path(text: str) -> None:
    _check_printable(text)
    if text and (not text.startswith("/") or text.endswith("/")):
        form = 'a path such as "/api", which starts with a slash and does not end with one'
        raise ValueError(f'expected "" or {form}, not {quoted(text)}')


def _check_header_value(text: str) -> None:
    # RFC 9110 section 5.5 allows more; printable ASCII cannot end the header line.
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError(f"expected a header value of printable ASCII, not {quoted(text)}")


def _check_access_format(text: str) -> None:
    _check_printable(text)
    if text.lower() in _NOTHING:
        raise ValueError(_NO_ACCESS_LOG)
    if text not in ("combined", "common", "json") and "{" not in text:
        raise ValueError(
            f'expected "combined", "common", "json" or a template with fields such as {{status}}, not {quoted(text)}'
        )


def _check_peer(text: str) -> None:
    if text in ("unix", "*"):
        return
    try:
        ip_network(text, strict=False)
    except ValueError:
        forms = 'an address, a network such as "10.0.0.0/8", "unix" for unix sockets or "*" for every peer'
        raise ValueError(f"expected {forms}, not {quoted(text)}") from None
    try:
        ip_network(text)
    except ValueError:  # either the address or the network is meant: a guess could trust too many peers
        address_alone = text.partition("/")[0]
        network = ip_network(text, strict=False)
        raise ValueError(
            f'{quoted(text)} mixes an address and a network; write "{network}" or "{address_alone}"'
        ) from None


def _read_environment(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f'expected a table such as {{ LANG = "C.UTF-8" }}, not {quoted(value)}')
    names = [name for name in value if not name or "=" in name or "\0" in name]
    problems = [f"{quoted(name)} cannot name an environment variable" for name in names]
    for name, text in value.items():
        if not isinstance(text, str) or "\0" in text:
            problems.append(f"{name} needs text in quotes, not {quoted(text)}")
    if problems:
        raise ValueError("; ".join(problems))
    return dict(value)


_TEXT_TABLE_SCHEMA = {"type": "object", "additionalProperties": {"type": "string"}}

PrintableText: TypeAlias = Annotated[str, _text("text", _check_printable, "asgid")]
Account: TypeAlias = Annotated[str, _ACCOUNT]
NonEmptyText: TypeAlias = Annotated[str, _text("text", _check_non_empty, "asgid")]
FilePath: TypeAlias = Annotated[str, _text("path", _check_non_empty, "/srv/myapp")]
PidFile: TypeAlias = Annotated[str, _text("path", _check_pid_file, "/run/asgid.pid")]
LogOutput: TypeAlias = Annotated[str, _text("path", _check_log_output, "/var/log/asgid.log")]
AccessOutput: TypeAlias = Annotated[str, _text("path", _check_access_output, "/var/log/asgid.log")]
Bind: TypeAlias = Annotated[str, _text("address", address.parse, "127.0.0.1:8000")]
TcpBind: TypeAlias = Annotated[str, _text("host:port", _check_tcp, "127.0.0.1:9464")]
Target: TypeAlias = Annotated[str, _text("module:attribute", _check_target, "myapp.asgi:application")]
RootPath: TypeAlias = Annotated[str, _text("text", _check_root_path, "/api")]
HeaderValue: TypeAlias = Annotated[str, _text("text", _check_header_value, "asgid")]
Peer: TypeAlias = Annotated[str, _text("peer", _check_peer, "10.0.0.0/8")]
AccessFormat: TypeAlias = Annotated[str, _text("text", _check_access_format, "combined")]
Environment: TypeAlias = Annotated[dict[str, str], ValueType("table of text", _read_environment, _TEXT_TABLE_SCHEMA)]
