"""Translates a value of another server's setting into a value of asgid's key.

Every translated value was tried on the settings, so a hint works when it is typed as printed. The worker class for
gunicorn uses the same conversions.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from pydantic import ValidationError

from asgid.config.cross_checks import find_contradictions
from asgid.config.document import SettingsDocument
from asgid.config.other_servers import ServerSetting
from asgid.config.reserved_keys import find_reserved
from asgid.config.tables import TABLES, Config, Limits
from asgid.config.value_types import written_default
from asgid.errors import ConfigError

_LEVELS = {"critical": "error", "fatal": "error", "trace": "debug", "notset": "debug", "warn": "warning"}
_VERBOSITY = {"0": "warning", "1": "info", "2": "debug", "3": "debug"}
_NO_KEEP_ALIVE_S = 0.001
_NO_LIMIT_BYTES = 2**20
_MAX_GUNICORN_FIELDS = 32768
#: Atom of gunicorn's access log format -> asgid's field.
ATOMS: Mapping[str, str] = {
    "h": "{client}",
    "l": "-",
    "u": "-",
    "t": "[{clf_time}]",
    "r": "{method} {target} HTTP/{version}",
    "m": "{method}",
    "U": "{path}",
    "q": "{query}",
    "H": "HTTP/{version}",
    "s": "{status}",
    "b": "{bytes}",
    "B": "{bytes}",
    "f": "{referer}",
    "a": "{user_agent}",
    "M": "{duration_ms}",
    "L": "{duration_s}",
    "p": "<{pid}>",
}
_STREAMS = {"log.output": "stderr", "log.access.output": "stdout"}


def _list(text: str) -> str:
    return json.dumps([part.strip() for part in text.split(",") if part.strip()])


def _octal(text: str) -> str:
    return json.dumps(text.removeprefix("0o").zfill(4))


def with_port(host: str, port: int | str) -> str:
    """Return an address; an IPv6 host gets brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def keep_alive_s(seconds: float) -> float:
    """Return `timeouts.keep_alive` for that of another server. There 0 disables keep-alive, in asgid the limit."""
    return seconds or _NO_KEEP_ALIVE_S


def request_line_bytes(size: int) -> int:
    """Return `limits.request_line` for gunicorn's limit_request_line, where 0 disables it."""
    return size or _NO_LIMIT_BYTES


def header_bytes(field_size: int) -> int:
    """Return `limits.header_size` for gunicorn's limit_request_field_size, a limit of one field; 0 disables it."""
    return max(Limits().header_size, 4 * field_size) if field_size else _NO_LIMIT_BYTES


def header_count(count: int) -> int:
    """Return `limits.header_count` for gunicorn's limit_request_fields, where 0 is its maximum."""
    return count or _MAX_GUNICORN_FIELDS


def access_format(template: str) -> str:
    """Return `log.access.format` for a format with gunicorn's atoms. Raises ValueError for an unknown atom."""

    def field(atom: re.Match[str]) -> str:
        header, name = atom.groups()
        if header or name in ATOMS:
            return f"{{header[{header}]}}" if header else ATOMS[name]
        raise ValueError(f"access_log_format: {atom[0]} is not supported; use {' '.join(ATOMS)} {{name}}i")

    literal = template.replace("{", "{{").replace("}", "}}")
    return re.sub(r"%\((?:\{\{([\w-]+)\}\}i|([^)]+))\)s", field, literal)


#: `value` of a row in other_servers.toml -> the conversion of a text.
CONVERSIONS: Mapping[str, Callable[[str], str]] = {
    "access_format": access_format,
    "bind": lambda text: with_port(text, 8000),
    "descriptor": "fd:{}".format,
    "header_count": lambda text: str(header_count(int(text))),
    "header_size": lambda text: str(header_bytes(int(text))),
    "host": lambda text: with_port(text, 8000),
    "interface": lambda text: {"asgi": "asgi3", "asginl": "asgi3"}.get(text, text),
    "keep_alive": lambda text: f"{keep_alive_s(float(text)):g}",
    "list": _list,
    "log_level": lambda text: _LEVELS.get(text.lower(), text.lower()),
    "mebibytes": "{}MiB".format,
    "metrics_host": lambda text: with_port(text, 9464),
    "metrics_port": "127.0.0.1:{}".format,
    "octal": _octal,
    "port": "127.0.0.1:{}".format,
    "request_line": lambda text: str(request_line_bytes(int(text))),
    "socket_file": "unix:{}".format,
    "verbosity": lambda text: _VERBOSITY.get(text, text),
}
#: asgid's key -> its values for an option without a value: for `--option` and for `--no-option`.
_SWITCHES: Mapping[str, tuple[str, str]] = {
    "http.server_header": ("asgid", '""'),
    "log.level": ("debug", "warning"),
    "proxy.headers": ("x-forwarded", "none"),
}
#: asgid's key -> an example for a hint, if the default is not a useful one.
_EXAMPLES: Mapping[str, str] = {
    "app.env": '{ NAME = "value" }',
    "app.root_path": "/api",
    "app.target": "myapp.asgi:application",
    "app.env.NAME": "value",
    "listen.name": "public",
    "process.group": "www-data",
    "process.pid_file": "/run/asgid.pid",
    "process.user": "www-data",
    "workers.count": "4",
}
_ON, _OFF = ("true", "on", "yes"), ("false", "none", "off", "no", "")
_ZERO = re.compile(r"0+(\.0*)?\s*[a-z]*", re.IGNORECASE)


def translated_value(setting: ServerSetting, key: str, value: str | None, *, is_negated: bool = False) -> str | None:
    """Return a word or a TOML value that asgid's `key` accepts and that means `value`; None if there is none.

    `value` is None for an option without a value. `is_negated` is true if the name of the option begins with `no`.
    """
    if has_other_zero(setting, value):
        return None
    candidates = _candidates(setting, key, value, is_negated=is_negated)
    return next((word for word in candidates if accepts(key, word)), None)


def has_other_zero(setting: ServerSetting, value: str | None) -> bool:
    """Return whether the value is a zero that means something there that asgid's key cannot mean."""
    return bool(setting.zero and value and _ZERO.fullmatch(value))


def example_value(key: str) -> str:
    """Return a word or a TOML value that asgid's `key` accepts."""
    return _EXAMPLES.get(key, _default(key))


def accepts(key: str, word: str) -> bool:
    """Return whether the settings accept a word or a TOML value for the key of this full name."""
    document = SettingsDocument.read(None, "")
    document.content.update(app={"target": "a:b"}, listen=[{}])
    if key in ("listen.mode", "listen.owner", "listen.group"):
        document.override("listen.bind", "unix:/run/asgid.sock")
    if key == "listen.bind":  # -b takes a text
        document.set(("listen", 0, "bind"), word, "")
    else:
        document.override(key, word)
    try:
        document.raise_problems()
        Config.model_validate(document.content)
    except (ConfigError, ValidationError):
        return False
    return not any((*find_reserved(document.content), *find_contradictions(document.content)))


def _candidates(setting: ServerSetting, key: str, value: str | None, *, is_negated: bool) -> Iterator[str]:
    """Yield words and TOML values that may be the translation, the most probable first."""
    yes, no = _SWITCHES.get(key, ("true", "false"))
    if value == "-" and key in _STREAMS:
        yield _STREAMS[key]
    elif value is None or is_negated:
        yield no if is_negated else yes
    else:
        is_complete = setting.value == "bind" and accepts(key, value)  # a port is added only if there is none
        if setting.value in CONVERSIONS and not is_complete:
            with suppress(ValueError, OverflowError):
                yield from _as_text(CONVERSIONS[setting.value](value))
        yield from _as_text(value)
        yield value.lower()  # Python's True
        if value.lower() in (*_OFF, *_ON):
            yield no if value.lower() in _OFF else yes
        if value in ("0", "1") and key not in _SWITCHES:  # a boolean of click
            yield ("false", "true")[int(value)]


def _as_text(value: str) -> Iterator[str]:
    yield value
    yield json.dumps(value, ensure_ascii=False)


def _default(key: str) -> str:
    """Return the default of a key as a word or a TOML value; "" for a key without one."""
    table, _, name = key.rpartition(".")
    field = TABLES[table].settings().get(name) if table in TABLES else None
    if field is None:
        return ""
    default = written_default(field)
    return default if isinstance(default, str) and default else json.dumps(default)
