"""Writes the tables of docs/migrating.md from asgid/config/other_servers.toml, between the markers of each server."""

import re
from collections.abc import Iterable
from pathlib import Path

from asgid.config.other_servers import ServerSetting, load
from asgid.config.reserved_keys import reserved_key

PAGE = Path(__file__).with_name("migrating.md")
_TABLE = re.compile(r"(?<=<!-- )(\w+)(: `make docs` writes .* -->\n)(?:\|.*\n)*(?=<!-- end -->)")


def page() -> str:
    """Return the page with the current tables; all other text as it stands."""
    servers = load().servers
    return _TABLE.sub(
        lambda found: f"{found[1]}{found[2]}{table(found[1], servers[found[1]])}", PAGE.read_text(encoding="utf-8")
    )


def table(server: str, settings: Iterable[ServerSetting]) -> str:
    """Return the table of one server in Markdown."""
    rows = "".join(f"| {_theirs(each)} | {_ours(each)} |\n" for each in settings)
    return f"| {server} | asgid |\n|---|---|\n{rows}"


def _theirs(setting: ServerSetting) -> str:
    return setting.title or ", ".join(f"`{name}`" for name in setting.names)


def _ours(setting: ServerSetting) -> str:
    key = f"*`{setting.key}`*" if reserved_key(setting.key) else f"`{setting.key}`" if setting.key else ""
    return "; ".join(filter(None, (key, setting.instead, setting.note, setting.zero)))
