"""The settings as documents: the example file, the reference, the JSON Schema, and a Config as TOML text.

All of them are generated from the models, so keys, defaults and meanings are true. No file is written here.
"""

import json
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from asgid import address
from asgid.config.reserved_keys import reserved_key
from asgid.config.tables import TABLES, Config, Listen, Table, header
from asgid.config.value_types import ValueType

_LATER = "not in this version"
_SOCKET_FILE_KEYS = ("mode", "owner", "group")

#: The keys that the example file sets; it has every other key as a comment with its default.
_EXAMPLE: Mapping[str, object] = {
    "app.target": "hello:application",
    "app.directory": "examples",
    "listen.bind": Listen.model_fields["bind"].default,
}

#: Full name -> a longer explanation, for the example file and the reference.
_NOTES: Mapping[str, str] = {
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

_ABOUT_VALUES = (
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
        _prose(_ABOUT_VALUES),
    ]
    return "#\n".join(blocks) + "".join(_example_table(name, model) for name, model in TABLES.items())


def _example_table(name: str, model: type[Table]) -> str:
    # Any other table may be empty, but [tls.NAME] would be a certificate.
    lines = ["", *_wrapped(model.__doc__ or ""), f"#{header(name)}" if name == "tls.NAME" else header(name)]
    for key, field in model.settings().items():
        full = f"{name}.{key}"
        later = _later(full, _default(field))
        lines += _wrapped(f"{field.description}{f' ({later})' if later else ''}")
        lines += _wrapped(_NOTES.get(full, ""))
        lines.append(f"{key} = {_toml(_EXAMPLE[full])}" if full in _EXAMPLE else f"#{key} = {_toml(_default(field))}")
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
            blocks += [_block(f"[tls.{_toml(key)}]", name, certificate) for key, certificate in config.tls.items()]
        else:
            blocks.append(
                _block(header(name), name, config.log.access if name == "log.access" else getattr(config, name))
            )
    return "\n".join(blocks)


def _block(opening: str, name: str, table: Table) -> str:
    lines = [opening]
    for key, field in table.settings().items():
        value = _written(field, getattr(table, key))
        if isinstance(table, Listen) and key in _SOCKET_FILE_KEYS and not isinstance(table.address, address.Unix):
            continue
        is_out = _later(f"{name}.{key}", value) == _LATER
        lines.append(f"#{key} = {_toml(value)}  # {_LATER}" if is_out else f"{key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


# -- the reference -----------------------------------------------------------------------------------------------------


def markdown() -> str:
    """Return the reference in Markdown: a table of keys for each table of the file."""
    return "".join(_markdown_lines())


def _markdown_lines() -> Iterator[str]:
    yield "# Settings\n\nEvery setting of asgid's file: its type, its default and what it means. "
    yield "`make docs` generates this page from `asgid/config/tables.py`.\n\n"
    yield f"The file is TOML. {_ABOUT_VALUES}\n\n"
    yield (
        "On the command line, `--set table.key=value` overrides a key, with a bare word or a TOML value. "
        "`-b ADDR` replaces all `[[listen]]` tables; `-w N` is `--set workers.count=N`. "
        "`asgid check -c FILE` names every problem of a file with its line. `asgid config -c FILE` shows the settings "
        "in force, and `asgid config --schema` the JSON Schema for editors.\n\n"
        f'A key marked "{_LATER}" has no effect, so asgid refuses a file that sets it.\n'
    )
    for name, model in TABLES.items():
        yield f"\n## {header(name)}\n\n{model.__doc__}\n\n| key | type | default | meaning |\n|---|---|---|---|\n"
        for key, field in model.settings().items():
            value = _default(field)
            later = _later(f"{name}.{key}", value)
            default = "required" if field.is_required() else f"`{_toml(value)}`"
            row = (f"`{key}`", _type(field), default, f"{field.description}{f' *({later})*' if later else ''}")
            yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n"
        for key in model.settings():
            if note := _NOTES.get(f"{name}.{key}"):
                yield f"\n`{key}`: {note}\n"


def _type(field: FieldInfo) -> str:
    if value_type := _value_type(field):
        return value_type.name
    if get_origin(field.annotation) is Literal:
        return " or ".join(f"`{_toml(word)}`" for word in get_args(field.annotation))
    names: dict[object, str] = {bool: "true or false", tuple: "list of text"}
    return names[get_origin(field.annotation) or field.annotation]


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
                property_["default"] = _plain(_default(field))
            if later := _later(f"{name}.{key}", _default(field)):
                property_["description"] += f" ({later})"
        properties.get("access", {}).pop("default", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document, "title": "asgid"}


# -- values ------------------------------------------------------------------------------------------------------------


def _value_type(field: FieldInfo) -> ValueType | None:
    return next((item for item in field.metadata if isinstance(item, ValueType)), None)


def _written(field: FieldInfo, value: object) -> object:
    value_type = _value_type(field)
    return value_type.write(value) if value_type else value


def _default(field: FieldInfo) -> object:
    """Return the default as a file writes it, "" for a required key."""
    return "" if field.is_required() else _written(field, field.get_default(call_default_factory=True))


def _later(full: str, value: object) -> str:
    """Return a remark about a reserved key: its allowed values if `value` is one of them; "" for any other key."""
    row = reserved_key(full)
    if row is None:
        return ""
    return (
        f"in this version {' or '.join(map(_toml, row.allowed_values))} only" if value in row.allowed_values else _LATER
    )


def _plain(value: object) -> object:
    """Return `value` with JSON's types."""
    return list(value) if isinstance(value, tuple) else value


def _toml(value: object) -> str:
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
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            pairs = ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
    raise AssertionError(f"a setting cannot be a {type(value).__name__}: {value!r}")
