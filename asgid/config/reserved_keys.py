"""Keys that do nothing in this version: their names are fixed already, and a file that relies on one is refused.

A key is either at work or in this table; none is ever ignored. This file does not know what else a file may hold.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from asgid.config.toml_lines import KeyPath


@dataclass(frozen=True, slots=True)
class NotYet:
    """A key whose name is fixed and that has no effect in this version."""

    promise: str  #: what it will do, after "later it will"
    harmless: tuple[object, ...] = ()  #: what may be written all the same, because it is true without the key

    def allows(self, value: object) -> bool:
        """Whether `value` may be written. Types are compared too, because in Python False == 0."""
        return any(type(value) is type(true) and value == true for true in self.harmless)


#: By the full name of a key; `*` stands for every key of its table. A feature that arrives deletes its row.
NOT_YET: Mapping[str, NotYet] = {
    "listen.tls": NotYet("serve HTTPS", ("",)),
    "tls.*": NotYet("serve HTTPS"),
    "control.*": NotYet("let commands reach a running master"),
}


def not_yet(name: str) -> NotYet | None:
    return NOT_YET.get(name) or NOT_YET.get(f"{name.partition('.')[0]}.*")


def idle_keys(document: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Find the keys in `document`, a parsed file, that would do nothing."""
    for top, content in document.items():
        items = enumerate(content) if isinstance(content, list) else [(None, content)]
        for index, table in items:
            for key, value in table.items() if isinstance(table, dict) else ():
                row = not_yet(f"{top}.{key}")
                if row and not row.allows(value):
                    path = (top, key) if index is None else (top, index, key)
                    yield path, f"has no effect in this version of asgid (later it will {row.promise}); leave it out"
