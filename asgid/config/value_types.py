"""The types of the settings' values: how a file writes each of them, and the value that the program gets.

Reading and writing are inverse: `type.read(type.write(value)) == value`. A value is ready for use: a duration is in
seconds (`math.inf` if off), a size in bytes (`UNLIMITED` if off), a mode is an integer. No setting is known here.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Annotated, Any, Final, TypeAlias

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from asgid import address

UNLIMITED: Final = 2**63 - 1

_DURATIONS: Final[Mapping[str, float]] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES: Final[Mapping[str, int]] = {
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "B": 1,
}
_MAX_DURATION_S = 366 * 86400.0  # 64 bits of nanoseconds hold 290 years; tests/e2e/test_extremes.py serves with this
#: The largest uid and gid. The next number is (uid_t) -1, which setresuid(2) and chown(2) take for "no change".
_MAX_ID = 2**32 - 2
_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = re.compile(rf"({_NUMBER})\s*({'|'.join(_DURATIONS)})", re.ASCII)
_SIZE = re.compile(rf"({_NUMBER})\s*({'|'.join(_SIZES)})", re.ASCII)
_OCTAL_DIGITS = re.compile(r"0?[0-7]{3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ValueType:
    """How a file writes one type of value. `read` returns the program's value, or raises ValueError with the fix."""

    name: str  #: for the reference
    read: Callable[[object], object]
    schema: Mapping[str, object]  #: JSON Schema of what `read` accepts, for editors
    write: Callable[[Any], object] = lambda value: value  #: the inverse of `read`

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


def quoted(value: object) -> str:
    """Return `value` for a message: nearly as a file writes it, at most 60 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # dates and times; integers too long to print
        text = str(value) if hasattr(value, "isoformat") else f"this {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


# -- numbers -----------------------------------------------------------------------------------------------------------


def _duration(*, zero: bool = False, off: bool = False, min_s: float = 0.0) -> ValueType:
    """Return the type of a duration in seconds, at least `min_s`.

    With `off`, 0 and "off" are math.inf. With `zero`, 0 is allowed and means 0.
    """
    forms = ', a number of seconds or "off"' if off else " or a number of seconds above zero"
    if zero:
        forms = ', a number of seconds, or 0, which means "at once"'

    def read(value: object) -> float:
        if off and value in ("off", math.inf):
            return math.inf
        seconds = math.nan
        if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
            # A division by 1000 is exact, a product with 0.001 is not: "7ms" must be 0.007.
            seconds = float(match[1]) / 1000 if match[2] == "ms" else float(match[1]) * _DURATIONS[match[2]]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            # A file may hold an integer of any length, and float() refuses one of 309 digits.
            seconds = float(max(-1, min(value, _MAX_DURATION_S + 1)))
        if seconds == 0 and off:
            return math.inf
        if not (seconds > 0 or (zero and seconds == 0)):
            raise ValueError(f'expected a duration such as "30s", "500ms", "2m"{forms}, not {quoted(value)}')
        if seconds > _MAX_DURATION_S:
            limit = '"366d" or "off"' if off else '"366d"'
            raise ValueError(f"expected a duration of at most {limit}, not {quoted(value)}")
        if seconds < min_s:
            limit = f'"{_write_duration(min_s)}"' + (' or "off"' if off else "")
            raise ValueError(f"expected a duration of at least {limit}, not {quoted(value)}")
        return seconds

    texts = {"type": "string", "pattern": f"^{_DURATION.pattern}$" + ("|^off$" if off else "")}
    numbers = {"type": "number", "minimum" if off or zero else "exclusiveMinimum": 0, "maximum": _MAX_DURATION_S}
    name = "duration" + (f' from "{_write_duration(min_s)}"' if min_s else "") + (' or "off"' if off else "")
    return ValueType(name, read, {"anyOf": [texts, numbers]}, _write_duration)


def _write_duration(seconds: float) -> str | float:
    if seconds == math.inf:
        return "off"
    for unit in ("d", "h", "m"):  # "90s" reads better than "1.5m", and "60s" than "1m"
        count, rest = divmod(seconds, _DURATIONS[unit])
        if count >= 2 and rest == 0:
            return f"{count:.0f}{unit}"
    if seconds == int(seconds):
        return f"{seconds:.0f}s"
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds / 1000 == seconds else seconds


def _size(*, off: bool = False) -> ValueType:
    """Return the type of a size in bytes. With `off`, 0 and "off" are UNLIMITED."""
    max_size = UNLIMITED if off else UNLIMITED - 1  # UNLIMITED is written as "off"

    def read(value: object) -> int:
        if off and value == "off":
            return UNLIMITED
        size = math.nan
        if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
            # A float loses the last digits of a large size, and int() refuses thousands of digits with its own message.
            is_exact = "." not in match[1] and len(match[1]) < 40
            size = (int(match[1]) if is_exact else float(match[1])) * _SIZES[match[2]]
        elif isinstance(value, int) and not isinstance(value, bool):
            size = value
        if size == 0 and off:
            return UNLIMITED
        if not (0 < size <= max_size and size == int(size)):
            forms = ', a number of bytes or "off"' if off else " or a number of bytes"
            raise ValueError(f'expected a size such as "16KiB", "16MB"{forms}, not {quoted(value)}')
        return int(size)

    texts = {"type": "string", "pattern": f"^{_SIZE.pattern}$" + ("|^off$" if off else "")}
    numbers = {"type": "integer", "minimum": 0 if off else 1, "maximum": max_size}
    return ValueType("size" + (' or "off"' if off else ""), read, {"anyOf": [texts, numbers]}, _write_size)


def _write_size(size: int) -> str | int:
    if size == UNLIMITED:
        return "off"
    # The unit with the smallest number: 16000000 is "16MB", not "15625KiB".
    units = [unit for unit in ("GiB", "MiB", "KiB", "GB", "MB", "kB") if size % _SIZES[unit] == 0]
    return "{}{}".format(*min((size // _SIZES[unit], unit) for unit in units)) if units else size


def integer(low: int, high: int, *, word: str = "", means: int | str = 0) -> ValueType:
    """Return the type of an integer from `low` to `high`, or `word`, which stands for `means`."""
    expected = f"whole number from {low} to {high}" + (f' or "{word}"' if word else "")

    def read(value: object) -> int | str:
        if word and value == word:
            return means
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise ValueError(f"expected a {expected}, not {quoted(value)}")

    number: dict[str, object] = {"type": "integer", "minimum": low, "maximum": high}
    return ValueType(expected, read, {"anyOf": [number, {"const": word}]} if word else number)


def _read_file_mode(value: object) -> int:
    if isinstance(value, str) and _OCTAL_DIGITS.fullmatch(value):
        return int(value, 8)
    # An integer is refused too: 660 may be meant as octal or as decimal.
    raise ValueError(f'expected an octal number in quotes such as "0660", not {quoted(value)}')


_FILE_MODE = ValueType(
    "octal text",
    _read_file_mode,
    {"type": "string", "pattern": f"^{_OCTAL_DIGITS.pattern}$"},
    lambda mode: f"{mode:04o}",
)

Duration: TypeAlias = Annotated[float, _duration()]
DurationOrZero: TypeAlias = Annotated[float, _duration(zero=True)]
DurationOrOff: TypeAlias = Annotated[float, _duration(off=True)]
#: Below 0.5 s, pauses of the kernel and of the garbage collector are enough to replace healthy workers in a loop.
Heartbeat: TypeAlias = Annotated[float, _duration(off=True, min_s=0.5)]
#: Below 0.1 s, a worker spends more time on heartbeats than on requests.
Blocked: TypeAlias = Annotated[float, _duration(off=True, min_s=0.1)]
Size: TypeAlias = Annotated[int, _size()]
SizeOrOff: TypeAlias = Annotated[int, _size(off=True)]
Count: TypeAlias = Annotated[int, integer(1, 1_000_000)]
CountOrOff: TypeAlias = Annotated[int, integer(0, 10**9, word="off")]
FileMode: TypeAlias = Annotated[int, _FILE_MODE]


# -- text --------------------------------------------------------------------------------------------------------------


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
        number = int(value[:11])
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _MAX_ID:
        return str(number)
    raise ValueError(f'expected a name in quotes such as "www-data" or an id from 0 to {_MAX_ID}, not {quoted(value)}')


_ACCOUNT = ValueType(
    "name or id",
    _read_account,
    {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0, "maximum": _MAX_ID}]},
)


def _check_output(text: str) -> None:
    _check_non_empty(text)
    # In gunicorn and hypercorn, "-" is stdout for the access log and stderr for the other one.
    if text == "-":
        raise ValueError('"-" is not accepted; write "stdout" or "stderr"')


def _check_tcp(text: str) -> None:
    if not isinstance(address.parse(text, address.TCP_FORMS), address.Tcp):
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
OptionalPath: TypeAlias = Annotated[str, _text("path", _check_printable, "/run/asgid.pid")]
OutputName: TypeAlias = Annotated[str, _text("path", _check_output, "/var/log/asgid.log")]
Bind: TypeAlias = Annotated[str, _text("address", address.parse, "127.0.0.1:8000")]
TcpBind: TypeAlias = Annotated[str, _text("host:port", _check_tcp, "127.0.0.1:9464")]
Target: TypeAlias = Annotated[str, _text("module:attribute", _check_target, "myapp.asgi:application")]
RootPath: TypeAlias = Annotated[str, _text("text", _check_root_path, "/api")]
HeaderValue: TypeAlias = Annotated[str, _text("text", _check_header_value, "asgid")]
Peer: TypeAlias = Annotated[str, _text("peer", _check_peer, "10.0.0.0/8")]
AccessFormat: TypeAlias = Annotated[str, _text("text", _check_access_format, "combined")]
Environment: TypeAlias = Annotated[dict[str, str], ValueType("table of text", _read_environment, _TEXT_TABLE_SCHEMA)]
