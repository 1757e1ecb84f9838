"""The settings as documents: the example file, the JSON Schema, and a Config as TOML text.

All of them are generated from the models, so keys, defaults and meanings are true. No file is written here.
"""

import json
from collections.abc import Mapping
from textwrap import wrap
from typing import Any

from asgid import address
from asgid.config.reserved_keys import reserved_key
from asgid.config.tables import TABLES, Config, Listen, Table, header
from asgid.config.value_types import written, written_default

#: The remark on a key without effect.
LATER = "not in this version"
_SOCKET_FILE_KEYS = ("mode", "owner", "group")

#: The keys that the example file sets; it has every other key as a comment with its default.
_EXAMPLE: Mapping[str, object] = {
    "app.target": "hello:application",
    "app.directory": "examples",
    "listen.bind": Listen.model_fields["bind"].default,
}

#: Full name -> a longer explanation, for the example file and the reference.
NOTES: Mapping[str, str] = {
    "log.access.format": (
        "The fields of a template are {bytes} {clf_time} {client} {duration_ms} {duration_s} {method} {path} {pid} "
        "{query} {referer} {status} {target} {time} {user_agent} {version} {worker} {header[NAME]}, as in "
        "'{time} {client} \"{method} {target}\" {status} {duration_ms} {header[x-request-id]}'. "
        "Write a brace that does not belong to a field twice. A template that is a JSON object or array makes lines of "
        "JSON."
    ),
    "process.user": (
        "Set this if asgid is started as root. A security hole in an application that runs as root exposes the whole "
        "machine, and few applications need root: the master binds the ports below 1024. If a user or a group is set, "
        "workers have no capabilities and cannot gain any, even if asgid was not started as root. An id "
        "without a name on this machine needs a group too, and its worker is in no other group."
    ),
}

ABOUT_VALUES = (
    'A duration is "30s", "500ms", "2m", "1h", "1d" or a number of seconds, at most "366d". A size is "16KiB", "16MB" '
    'or a number of bytes. "off" or 0 disables a limit that may be off. A relative path starts from the directory in '
    "which asgid was started, not from the directory of this file."
)


# -- the example file --------------------------------------------------------------------------------------------------


def example_file() -> str:
    """Return a file with every setting and its default, which serves the application in `examples`.

    Defaults are comments, as in sshd_config and postgresql.conf: the file sets only the keys that it changes. A start
    gives up a default metrics address with a warning, but not an address that the file sets.
    """
    blocks = [
        _prose("asgid's settings. Only target is required."),
        _prose(
            'A line such as "#name = value", without a blank, is a setting with its default; to change it, remove #.'
        ),
        _prose(ABOUT_VALUES),
    ]
    return "#\n".join(blocks) + "".join(_example_table(name, model) for name, model in TABLES.items())


def _example_table(name: str, model: type[Table]) -> str:
    # Any other table may be empty, but [tls.NAME] would be a certificate.
    lines = ["", *_wrapped(model.__doc__ or ""), f"#{header(name)}" if name == "tls.NAME" else header(name)]
    for key, field in model.settings().items():
        full = f"{name}.{key}"
        later = remark(full, written_default(field))
        lines += _wrapped(f"{field.description}{f' ({later})' if later else ''}")
        lines += _wrapped(NOTES.get(full, ""))
        lines.append(
            f"{key} = {toml(_EXAMPLE[full])}" if full in _EXAMPLE else f"#{key} = {toml(written_default(field))}"
        )
    return "\n".join(lines) + "\n"


def _prose(text: str) -> str:
    return "\n".join(_wrapped(text)) + "\n"


def _wrapped(text: str) -> list[str]:
    return wrap(text, 100, initial_indent="# ", subsequent_indent="# ")


# -- a Config as a file ------------------------------------------------------------------------------------------------


def config_to_toml(config: Config) -> str:
    """Return `config` as a file with every setting; `config.parse` makes an equal Config from it.

    A Config does not record whether a value is a default, so the file sets all of them.
    """
    blocks = []
    for name in TABLES:
        if name == "listen":
            blocks += [_block("[[listen]]", name, listener) for listener in config.listen]
        elif name == "tls.NAME":
            blocks += [_block(f"[tls.{toml(key)}]", name, certificate) for key, certificate in config.tls.items()]
        else:
            blocks.append(
                _block(header(name), name, config.log.access if name == "log.access" else getattr(config, name))
            )
    return "\n".join(blocks)


def _block(opening: str, name: str, table: Table) -> str:
    lines = [opening]
    for key, field in table.settings().items():
        value = written(field, getattr(table, key))
        if isinstance(table, Listen) and key in _SOCKET_FILE_KEYS and not isinstance(table.address, address.Unix):
            continue
        is_out = remark(f"{name}.{key}", value) == LATER
        lines.append(f"#{key} = {toml(value)}  # {LATER}" if is_out else f"{key} = {toml(value)}")
    return "\n".join(lines) + "\n"


# -- the JSON Schema ---------------------------------------------------------------------------------------------------


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for completion and checks in editors; it agrees with the parser on types."""
    for model in TABLES.values():
        model.model_rebuild()  # else pydantic before 2.13 omits the defaults
    document = Config.model_json_schema()
    # A default in a model is a value of the program, such as infinity; the schema needs the form of a file.
    for table in document["properties"].values():
        table.pop("default", None)
        table.pop("title", None)
    document["properties"]["listen"]["minItems"] = 1
    for name, model in TABLES.items():
        properties = document["$defs"][model.__name__]["properties"]
        for key, field in model.settings().items():
            property_ = properties[key]
            property_.pop("title", None)
            if not field.is_required():
                property_["default"] = written_default(field)
            if later := remark(f"{name}.{key}", written_default(field)):
                property_["description"] += f" ({later})"
        properties.get("access", {}).pop("default", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document, "title": "asgid"}


# -- values ------------------------------------------------------------------------------------------------------------


def remark(full: str, value: object) -> str:
    """Return a remark about a reserved key: its allowed values if `value` is one of them; "" for any other key."""
    row = reserved_key(full)
    if row is None:
        return ""
    return (
        f"in this version {' or '.join(map(toml, row.allowed_values))} only" if value in row.allowed_values else LATER
    )


def toml(value: object) -> str:
    """Return `value` as TOML text on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            # TOML has JSON's escapes, but DEL must be escaped too.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
        case int() | float():
            return repr(value)
        case tuple() | list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            pairs = ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
    raise AssertionError(f"a setting cannot be a {type(value).__name__}: {value!r}")
