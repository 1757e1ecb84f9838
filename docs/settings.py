"""The generated reference of the settings: for each table of the file, every key with type, default and meaning."""

from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from asgid.config.reference import ABOUT_VALUES, LATER, NOTES, remark, toml
from asgid.config.tables import TABLES, Table, header
from asgid.config.value_types import value_type, written_default

_TYPES: dict[object, str] = {bool: "true or false", tuple: "list of text"}


def page() -> str:
    """Return docs/config.md."""
    return _INTRODUCTION + "".join(_section(name, model) for name, model in TABLES.items())


def _section(name: str, model: type[Table]) -> str:
    rows = [_row(f"{name}.{key}", field) for key, field in model.settings().items()]
    notes = [f"\n`{key}`: {NOTES[full]}\n" for key in model.settings() if (full := f"{name}.{key}") in NOTES]
    head = "| key | type | default | meaning |\n|---|---|---|---|\n"
    return f"\n## {header(name)}\n\n{model.__doc__}\n\n{head}{''.join(rows + notes)}"


def _row(full: str, field: FieldInfo) -> str:
    default = written_default(field)
    later = remark(full, default)
    cells = (
        f"`{full.rpartition('.')[2]}`",
        _type(field),
        "required" if field.is_required() else f"`{toml(default)}`",
        f"{field.description}{f' *({later})*' if later else ''}",
    )
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"


def _type(field: FieldInfo) -> str:
    if own := value_type(field):
        return own.name
    if get_origin(field.annotation) is Literal:
        return " or ".join(f"`{toml(word)}`" for word in get_args(field.annotation))
    return _TYPES[get_origin(field.annotation) or field.annotation]


_INTRODUCTION = f"""\
# Settings

Every setting of asgid's file: its type, its default and what it means. `make docs` generates this page from \
`asgid/config/tables.py`.

The file is TOML. {ABOUT_VALUES}

On the command line, `--set table.key=value` overrides a key, with a bare word or a TOML value. `-b ADDR` replaces all \
`[[listen]]` tables; `-w N` is `--set workers.count=N`. `asgid check -c FILE` names every problem of a file with its \
line. `asgid config -c FILE` shows the settings in force, and `asgid config --schema` the JSON Schema for editors.

A key marked "{LATER}" has no effect, so asgid refuses a file that sets it.
"""
