"""The kinds of values that settings have: how people write each of them, and what the program gets.

Reading and writing are inverse: `kind.read(kind.write(value)) == value`. What is read is ready for use: durations are
seconds (`math.inf` where switched off), sizes are bytes (`UNLIMITED` where switched off), modes are integers. This file
does not know which setting has which kind.
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
_LONGEST_S = 366 * 86400.0  # nanoseconds in 64 bits hold a hundred times as much; a test serves with it everywhere
_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = re.compile(rf"({_NUMBER})\s*({'|'.join(_DURATIONS)})", re.ASCII)
_SIZE = re.compile(rf"({_NUMBER})\s*({'|'.join(_SIZES)})", re.ASCII)
_OCTAL = re.compile(r"0?[0-7]{3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Kind:
    """How people write one kind of value: `read` returns what the program uses, or raises ValueError that teaches."""

    name: str  #: in the reference
    read: Callable[[object], object]
    schema: Mapping[str, object]  #: JSON Schema of what `read` accepts, for editors
    write: Callable[[Any], object] = lambda value: value  #: the inverse of `read`: a value as people write it

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


def shown(value: object) -> str:
    """Return `value` nearly as it is written in a file, cut to a length that fits into a message."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # dates and times; integers too long to print
        text = str(value) if hasattr(value, "isoformat") else f"this {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


# -- numbers -----------------------------------------------------------------------------------------------------------


def _duration(*, zero: bool = False, off: bool = False, least: float = 0.0) -> Kind:
    """Seconds; with `off`, 0 and "off" are math.inf; with `zero`, 0 is 0; with `least`, no shorter one is taken."""
    ways = ', a number of seconds or "off"' if off else " or a number of seconds above zero"
    if zero:
        ways = ', a number of seconds, or 0, which means "at once"'

    def read(value: object) -> float:
        if off and value in ("off", math.inf):
            return math.inf
        seconds = math.nan
        if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
            # Division by 1000 is exact where a product with 0.001 is not: "7ms" is 0.007.
            seconds = float(match[1]) / 1000 if match[2] == "ms" else float(match[1]) * _DURATIONS[match[2]]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            # An integer of any length comes from a file, and float() takes none of 309 digits.
            seconds = float(max(-1, min(value, _LONGEST_S + 1)))
        if seconds == 0 and off:
            return math.inf
        if not (seconds > 0 or (zero and seconds == 0)):
            raise ValueError(f'expected a duration such as "30s", "500ms", "2m"{ways}, not {shown(value)}')
        if seconds > _LONGEST_S:
            longest = '"366d" or "off"' if off else '"366d"'
            raise ValueError(f"expected a duration of at most {longest}, not {shown(value)}")
        if seconds < least:
            shortest = f'"{_write_duration(least)}"' + (' or "off"' if off else "")
            raise ValueError(f"expected a duration of at least {shortest}, not {shown(value)}")
        return seconds

    texts = {"type": "string", "pattern": f"^{_DURATION.pattern}$" + ("|^off$" if off else "")}
    numbers = {"type": "number", "minimum" if off or zero else "exclusiveMinimum": 0, "maximum": _LONGEST_S}
    name = "duration" + (f' from "{_write_duration(least)}"' if least else "") + (' or "off"' if off else "")
    return Kind(name, read, {"anyOf": [texts, numbers]}, _write_duration)


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


def _size(*, off: bool = False) -> Kind:
    """Bytes; with `off`, 0 and "off" are UNLIMITED."""
    largest = UNLIMITED if off else UNLIMITED - 1  # or what cannot be off would be written as "off"

    def read(value: object) -> int:
        if off and value == "off":
            return UNLIMITED
        size = math.nan
        if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
            # Floats lose the last digits of large sizes; int() refuses thousands of digits, and in its own words.
            is_exact = "." not in match[1] and len(match[1]) < 40
            size = (int(match[1]) if is_exact else float(match[1])) * _SIZES[match[2]]
        elif isinstance(value, int) and not isinstance(value, bool):
            size = value
        if size == 0 and off:
            return UNLIMITED
        if not (0 < size <= largest and size == int(size)):
            ways = ', a number of bytes or "off"' if off else " or a number of bytes"
            raise ValueError(f'expected a size such as "16KiB", "16MB"{ways}, not {shown(value)}')
        return int(size)

    texts = {"type": "string", "pattern": f"^{_SIZE.pattern}$" + ("|^off$" if off else "")}
    numbers = {"type": "integer", "minimum": 0 if off else 1, "maximum": largest}
    return Kind("size" + (' or "off"' if off else ""), read, {"anyOf": [texts, numbers]}, _write_size)


def _write_size(size: int) -> str | int:
    if size == UNLIMITED:
        return "off"
    # The shortest number: 16000000 is "16MB", though "15625KiB" says it too.
    units = [unit for unit in ("GiB", "MiB", "KiB", "GB", "MB", "kB") if size % _SIZES[unit] == 0]
    return "{}{}".format(*min((size // _SIZES[unit], unit) for unit in units)) if units else size


def whole(low: int, high: int, *, word: str = "", means: int | str = 0) -> Kind:
    """A whole number from `low` to `high`, or `word`, which stands for `means`."""
    expected = f"whole number from {low} to {high}" + (f' or "{word}"' if word else "")

    def read(value: object) -> int | str:
        if word and value == word:
            return means
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise ValueError(f"expected a {expected}, not {shown(value)}")

    number: dict[str, object] = {"type": "integer", "minimum": low, "maximum": high}
    return Kind(expected, read, {"anyOf": [number, {"const": word}]} if word else number)


def _read_octal(value: object) -> int:
    if isinstance(value, str) and _OCTAL.fullmatch(value):
        return int(value, 8)
    # An integer is refused too: nobody can tell 660 that was meant octal from 660 that was not.
    raise ValueError(f'expected an octal number in quotes such as "0660", not {shown(value)}')


_OCTAL_TEXT = Kind(
    "octal text", _read_octal, {"type": "string", "pattern": f"^{_OCTAL.pattern}$"}, lambda mode: f"{mode:04o}"
)

Duration: TypeAlias = Annotated[float, _duration()]
DurationOrZero: TypeAlias = Annotated[float, _duration(zero=True)]
DurationOrOff: TypeAlias = Annotated[float, _duration(off=True)]
#: Shorter ones judge a worker by what the kernel and the garbage collector take: healthy ones are ended in a loop.
Heartbeat: TypeAlias = Annotated[float, _duration(off=True, least=0.5)]
#: Shorter ones cost the worker more in beats than its requests.
Blocked: TypeAlias = Annotated[float, _duration(off=True, least=0.1)]
Size: TypeAlias = Annotated[int, _size()]
SizeOrOff: TypeAlias = Annotated[int, _size(off=True)]
Count: TypeAlias = Annotated[int, whole(1, 1_000_000)]
CountOrOff: TypeAlias = Annotated[int, whole(0, 10**9, word="off")]
Octal: TypeAlias = Annotated[int, _OCTAL_TEXT]


# -- text --------------------------------------------------------------------------------------------------------------


def _text(name: str, check: Callable[[str], object], example: str) -> Kind:
    """Text for which `check` raises no ValueError."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"expected text in quotes such as {shown(example)}, not {shown(value)}")
        check(value)
        return value

    return Kind(name, read, {"type": "string"})


def _check_line(text: str) -> None:
    if not text.isprintable():
        raise ValueError(f"expected text without control characters, not {shown(text)}")


def _check_filled(text: str) -> None:
    _check_line(text)
    if not text:
        raise ValueError("this must not be empty")


def _check_output(text: str) -> None:
    _check_filled(text)
    # gunicorn and hypercorn have it mean stdout for one log and stderr for the other.
    if text == "-":
        raise ValueError('"-" is the name of no stream here: write "stdout" or "stderr"')


def _check_tcp(text: str) -> None:
    if not isinstance(address.parse(text, address.TCP_FORMS), address.Tcp):
        raise ValueError(f'expected host:port, such as "127.0.0.1:9464", not {shown(text)}')


def _check_target(text: str) -> None:
    how = 'write "module:attribute", such as "myapp.asgi:application"'
    module, colon, attribute = text.partition(":")
    if "/" in module or module.endswith(".py"):
        folder, _, name = module.removesuffix(".py").rpartition("/")
        where = f', and directory = "{folder or "/"}" (--set app.directory={folder or "/"})' if "/" in module else ""
        way = (
            f'write "{name}:{attribute}"'
            if attribute
            else f'write "{name}:" and then the name of the application in it'
        )
        raise ValueError(f"{shown(module)} is a file; {way}{where}")
    if not colon:
        parent, _, last = text.rpartition(".")
        # Django's own module, to which gunicorn adds the rest by itself.
        guess = f"{text}:application" if last in ("asgi", "wsgi") else f"{parent}:{last}"
        meant = f'; did you mean "{guess}"?' if parent and last.isidentifier() else ""
        raise ValueError(f"there is no colon in {shown(text)}; {how}{meant}")
    if attribute.endswith("()"):
        raise ValueError(f'write "{text[:-2]}", and factory = true (--set app.factory=true) to have it called')
    if not all(part.isidentifier() for name in (module, attribute) for part in name.split(".")):
        raise ValueError(f"{shown(text)} names no Python object; {how}")


def _check_root_path(text: str) -> None:
    _check_line(text)
    if text and (not text.startswith("/") or text.endswith("/")):
        raise ValueError(f'expected "" or a path such as "/api": a slash before it and none behind, not {shown(text)}')


def _check_header_value(text: str) -> None:
    # RFC 9110 section 5.5: visible ASCII with single spaces inside; anything else could end the header line.
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError(f"expected a header value of printable ASCII, not {shown(text)}")


def _check_access_format(text: str) -> None:
    _check_line(text)
    if text not in ("combined", "common", "json") and "{" not in text:
        raise ValueError(
            f'expected "combined", "common", "json" or a template with fields such as {{status}}, not {shown(text)}'
        )


def _check_peer(text: str) -> None:
    if text in ("unix", "*"):
        return
    try:
        ip_network(text, strict=False)
    except ValueError:
        ways = 'an address, a network such as "10.0.0.0/8", "unix" for unix sockets or "*" for everybody'
        raise ValueError(f"expected {ways}, not {shown(text)}") from None
    try:
        ip_network(text)
    except ValueError:  # somebody meant the address or the network; a guess would trust too few or too many
        address_alone = text.partition("/")[0]
        network = ip_network(text, strict=False)
        raise ValueError(f'{shown(text)} is neither: write "{network}" or "{address_alone}"') from None


def _read_environment(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f'expected a table such as {{ LANG = "C.UTF-8" }}, not {shown(value)}')
    names = [name for name in value if not name or "=" in name or "\0" in name]
    faults = [f"{shown(name)} cannot name an environment variable" for name in names]
    for name, text in value.items():
        if not isinstance(text, str) or "\0" in text:
            faults.append(f"{name} needs text in quotes, not {shown(text)}")
    if faults:
        raise ValueError("; ".join(faults))
    return dict(value)


_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}

Line: TypeAlias = Annotated[str, _text("text", _check_line, "asgid")]
Filled: TypeAlias = Annotated[str, _text("text", _check_filled, "asgid")]
FilePath: TypeAlias = Annotated[str, _text("path", _check_filled, "/srv/myapp")]
OptionalPath: TypeAlias = Annotated[str, _text("path", _check_line, "/run/asgid.pid")]
OutputName: TypeAlias = Annotated[str, _text("path", _check_output, "/var/log/asgid.log")]
Bind: TypeAlias = Annotated[str, _text("address", address.parse, "127.0.0.1:8000")]
TcpBind: TypeAlias = Annotated[str, _text("host:port", _check_tcp, "127.0.0.1:9464")]
Target: TypeAlias = Annotated[str, _text("module:attribute", _check_target, "myapp.asgi:application")]
RootPath: TypeAlias = Annotated[str, _text("text", _check_root_path, "/api")]
HeaderValue: TypeAlias = Annotated[str, _text("text", _check_header_value, "asgid")]
Peer: TypeAlias = Annotated[str, _text("peer", _check_peer, "10.0.0.0/8")]
AccessFormat: TypeAlias = Annotated[str, _text("text", _check_access_format, "combined")]
Environment: TypeAlias = Annotated[dict[str, str], Kind("table of text", _read_environment, _TEXTS)]
