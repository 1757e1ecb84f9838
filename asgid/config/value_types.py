"""The types of the settings' values, and those of numbers: the form in a file, and the value that the program gets.

Reading and writing are inverse: `type.read(type.write(value)) == value`. A value is ready for use: a duration is in
seconds (`math.inf` if off), a size in bytes (`UNLIMITED` if off), a mode is an integer. No setting is known here.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

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
_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = re.compile(rf"({_NUMBER})\s*({'|'.join(_DURATIONS)})", re.ASCII)
_SIZE = re.compile(rf"({_NUMBER})\s*({'|'.join(_SIZES)})", re.ASCII)
_OCTAL_DIGITS = re.compile(r"0?[0-7]{3}", re.ASCII)


@dataclass(frozen=True)
class ValueType:
    """How a file writes one type of value. `read` returns the program's value, or raises ValueError with the fix."""

    name: str  #: for the reference
    read: Callable[[object], object]
    schema: Mapping[str, object]  #: JSON Schema of the values that `read` accepts, for editors
    write: Callable[[Any], object] = lambda value: value  #: the inverse of `read`

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


def value_type(field: FieldInfo) -> ValueType | None:
    """Return the ValueType of a setting; None if pydantic validates it."""
    return next((item for item in field.metadata if isinstance(item, ValueType)), None)


def written(field: FieldInfo, value: object) -> object:
    """Return the value of a setting as a file writes it."""
    own = value_type(field)
    return own.write(value) if own else value


def written_default(field: FieldInfo) -> object:
    """Return the default of a setting as a file writes it, "" if the setting is required."""
    return "" if field.is_required() else written(field, field.get_default(call_default_factory=True))


def quoted(value: object) -> str:
    """Return `value` for a message: nearly as a file writes it, at most 60 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # dates and times; integers too long to print
        text = str(value) if hasattr(value, "isoformat") else f"this {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


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
