"""The settings, options and commands of other servers, with their counterparts in asgid: reads other_servers.toml.

The file is read when a message first needs it; a daemon with correct settings never does.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tomli

from asgid.config.reserved_keys import reserved_key
from asgid.config.tables import TABLES


@dataclass(frozen=True)
class ServerSetting:
    """A row of the file, which explains each field."""

    names: tuple[str, ...] = ()
    key: str = ""
    instead: str = ""
    value: str = ""
    zero: str = ""
    flag: bool = False
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class OtherServers:
    """The content of the file."""

    servers: Mapping[str, tuple[ServerSetting, ...]]  #: in the order of the file
    ignored_commands: frozenset[str]  #: words before the application that asgid does not need
    command_answers: Mapping[str, str]  #: command -> how asgid does it


@cache
def load() -> OtherServers:
    """Return the content of the file, an empty one if the package was removed after this program started."""
    try:
        data = Path(__file__).with_name("other_servers.toml").read_bytes()
    except OSError:
        return OtherServers({}, frozenset(), {})
    content = tomli.loads(data.decode())
    commands = content.pop("commands")
    return OtherServers(
        {server: tuple(_rows(table["settings"])) for server, table in content.items()},
        frozenset(commands["ignored"]),
        commands["answers"],
    )


def _rows(rows: Iterable[Mapping[str, object]]) -> Iterator[ServerSetting]:
    for row in rows:
        names = row.get("names", [])
        assert isinstance(names, list)
        yield ServerSetting(**{**row, "names": tuple(names)})  # type: ignore[arg-type]


def plain_name(name: str) -> str:
    """Return an option or a key with underscores, without the hyphens before it."""
    return name.lstrip("-").lower().replace("-", "_")


@cache
def file_settings() -> Mapping[str, ServerSetting]:
    """Return plain name -> setting, for a name in a file.

    Most options are settings of a file too, so they count unless asgid has a key of that name, which may be meant.
    """
    found: dict[str, ServerSetting] = {}
    for name, row in _names():
        if not name.startswith("-") or plain_name(name) not in own_settings():
            found.setdefault(plain_name(name), row)
    return found


@cache
def own_settings() -> Mapping[str, ServerSetting]:
    """Return asgid's keys as another server's settings, by key."""
    return {
        key: ServerSetting((key,), key=f"{table}.{key}") for table, model in TABLES.items() for key in model.settings()
    }


@cache
def options() -> Mapping[str, ServerSetting]:
    """Return plain name -> setting, for a long option: those of other servers, and asgid's keys."""
    own = {key: row for key, row in own_settings().items() if not reserved_key(row.key)}
    found: dict[str, ServerSetting] = {}
    for name, row in _names():
        if name.startswith("--") or not name.startswith("-"):
            found.setdefault(plain_name(name), row)
    return own | found


@cache
def letters() -> Mapping[str, str]:
    """Return letter -> plain name of the first long option of its row."""
    found: dict[str, str] = {}
    for name, row in _names():
        if name.startswith("-") and not name.startswith("--"):
            long = next(other for other in row.names if other.startswith("--"))
            found.setdefault(name[1:], plain_name(long))
    return found


def _names() -> Iterator[tuple[str, ServerSetting]]:
    for rows in load().servers.values():
        for row in rows:
            for name in row.names:
                yield name, row
