"""How other servers write values, and how asgid writes the same: text -> candidates, the likeliest first.

What a candidate is worth only the settings know: who suggests one tries it before. So a hint works as it is printed.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from shlex import quote

import tomli

_LEVELS = {"critical": "error", "fatal": "error", "trace": "debug", "notset": "debug", "warn": "warning"}
_VERBOSITY = {"0": "warning", "1": "info", "2": "debug", "3": "debug"}
_STREAMS = {"log.output": "stderr", "log.access.output": "stdout"}


def _listed(text: str) -> str:
    return json.dumps([part.strip() for part in text.split(",") if part.strip()])


def _octal(text: str) -> str:
    return json.dumps(text.removeprefix("0o").zfill(4))


def _address(host: str) -> str:
    return f"[{host}]:8000" if ":" in host else f"{host}:8000"


#: Another server's name for a setting -> what its value is here.
_CONVERSIONS: Mapping[str, Callable[[str], str]] = {
    "address": _address,
    "fd": "fd:{}".format,
    "forwarded_allow_ips": _listed,
    "host": _address,
    "interface": lambda text: {"asgi": "asgi3", "asginl": "asgi3"}.get(text, text),
    "log_level": lambda text: _LEVELS.get(text.lower(), text.lower()),
    "loglevel": lambda text: _LEVELS.get(text.lower(), text.lower()),
    "metrics_address": "{}:9464".format,
    "metrics_port": "127.0.0.1:{}".format,
    "port": "127.0.0.1:{}".format,
    "proxy_allow_from": _listed,
    "proxy_allow_ips": _listed,
    "uds": "unix:{}".format,
    "uds_permissions": _octal,
    "umask": _octal,
    "unix_socket": "unix:{}".format,
    "verbosity": lambda text: _VERBOSITY.get(text, text),
    "workers_max_rss": "{}MiB".format,
}
#: Our key -> its value where another server has an option without one: as it is, and with `no` before it.
_SWITCHES: Mapping[str, tuple[str, str]] = {
    "http.server_header": ("asgid", '""'),
    "log.level": ("debug", "warning"),
    "proxy.headers": ("x-forwarded", "none"),
}
#: Our key -> an example, where the default is not one.
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


def candidates(name: str, ours: str, value: str | None, *, is_negated: bool = False) -> Iterator[str]:
    """Yield what `value` of another server's setting `name` may be for our key `ours`, as a word or a TOML value.

    `value` is None for an option that has none; `is_negated` tells that it begins with `no`.
    """
    yes, no = _SWITCHES.get(ours, ("true", "false"))
    if value == "-" and ours in _STREAMS:
        yield _STREAMS[ours]
    elif value is None or is_negated:
        yield no if is_negated else yes
    else:
        if name in _CONVERSIONS:
            yield _CONVERSIONS[name](value)
        yield value
        yield json.dumps(value, ensure_ascii=False)
        yield value.lower()  # Python's True
        if value.lower() in (*_OFF, *_ON):
            yield no if value.lower() in _OFF else yes


def example(ours: str, default: str) -> str:
    """Return a value for our key that a hint can show; `default` is its default, as a TOML value."""
    return _EXAMPLES.get(ours, default)


def read_word(word: str) -> object:
    """Return what `word` means as a TOML value, or itself if it is none, so that text needs no quotes in a shell.

    Raises ValueError with what to write.
    """
    if any("\ud800" <= character <= "\udfff" for character in word):  # how Python shows bytes that are no text
        raise ValueError("this is not UTF-8")
    try:
        document = tomli.loads(f"value = {word}")
    except (ValueError, RecursionError):
        if word[:1] in ("'", '"', "[", "{"):
            how = "" if word[0] in "'\"" else f"; as text it is {quote(json.dumps(word, ensure_ascii=False))}"
            raise ValueError(f"neither a bare word nor a TOML value: {word}{how}") from None
        return word
    return document["value"] if len(document) == 1 else word
