"""Reserved keys: their names are fixed, but they have no effect in this version, so a file that sets one is refused."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from asgid.config.toml_lines import KeyPath


@dataclass(frozen=True)
class ReservedKey:
    """A key without effect in this version."""

    purpose: str  #: completes "later it will ..."
    allowed_values: tuple[object, ...] = ()  #: values that are true without the key, so a file may set them

    def allows(self, value: object) -> bool:
        """Return whether a file may set the key to `value`. Types must match too, because in Python False == 0."""
        return any(type(value) is type(allowed) and value == allowed for allowed in self.allowed_values)


#: Full name -> reserved key; `*` stands for every key of the table. The change that adds a feature deletes its row.
RESERVED_KEYS: Mapping[str, ReservedKey] = {
    "listen.tls": ReservedKey("serve HTTPS", ("",)),
    "tls.*": ReservedKey("serve HTTPS"),
    "control.*": ReservedKey("let commands reach a running master"),
}


def reserved_key(name: str) -> ReservedKey | None:
    """Return the row of a key by its full name, None if the key is not reserved."""
    return RESERVED_KEYS.get(name) or RESERVED_KEYS.get(f"{name.partition('.')[0]}.*")


def find_reserved(content: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Yield path and message of each reserved key in `content`, a parsed file."""
    for table_name, value in content.items():
        tables = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, table in tables:
            for key, written in table.items() if isinstance(table, dict) else ():
                row = reserved_key(f"{table_name}.{key}")
                if row and not row.allows(written):
                    path = (table_name, key) if index is None else (table_name, index, key)
                    yield path, f"has no effect in this version of asgid (later it will {row.purpose}); leave it out"
