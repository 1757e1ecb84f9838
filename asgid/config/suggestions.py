"""Describes an error in a file, with the key or value that was probably meant.

The most certain suggestion wins: a setting of another server, then the key in another table, then a similar name.
"""

import json
import re
from collections.abc import Iterable

from pydantic_core import ErrorDetails

from asgid.config.document import read_word
from asgid.config.other_servers import ServerSetting, file_settings, own_settings, plain_name
from asgid.config.reserved_keys import reserved_key
from asgid.config.spelling import did_you_mean, nearest
from asgid.config.tables import TABLES, header
from asgid.config.toml_lines import KeyPath, full_name
from asgid.config.translation import example_value, has_other_zero, translated_value
from asgid.config.value_types import quoted


def describe_error(detail: ErrorDetails) -> str:
    """Return the message for an error of validation, in the words of the file."""
    path, value = detail["loc"], detail["input"]
    name = full_name(path)
    match detail["type"]:
        case "value_error":
            return str(detail["ctx"]["error"])
        case "extra_forbidden":
            return _unknown_key(path, value)
        case "missing":
            return 'is required: [app] and below it target = "module:attribute", such as "myapp.asgi:application"'
        case "literal_error":
            words = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
            question = did_you_mean(value.lower(), words) if isinstance(value, str) else ""
            return f"expected one of {', '.join(map(quoted, words))}, not {quoted(value)}{question}"
        case "bool_type":
            return f"expected true or false, without quotes, not {quoted(value)}"
        case "tuple_type" if name == "listen":
            return 'write [[listen]], in double brackets, for it may be repeated, then bind = "127.0.0.1:8000"'
        case "tuple_type":
            return f"expected a list in brackets, not {quoted(value)}"
        case "model_type" | "dict_type" if setting := file_settings().get(name):
            return f"is a table; {_our_key(setting, value)}"
        case "model_type" | "dict_type":
            opening = header("tls.NAME" if path[0] == "tls" else name)
            return f"is a table: write {opening} on a line of its own and its keys below, not {quoted(value)}"
    return f"{detail['msg']}, not {quoted(value)}"


def _unknown_key(path: KeyPath, value: object) -> str:
    parent, key = full_name(path[:-1]), str(path[-1])
    known = {table: model.settings() for table, model in TABLES.items()}
    siblings = known["tls.NAME" if parent.startswith("tls.") else parent] if parent else known
    owners = [table for table, keys in known.items() if key in keys]
    plain = plain_name(key)
    if any(isinstance(item, dict) for item in _list(value)):  # a table was meant
        return f"there is no such table{did_you_mean(full_name(path).lower(), known) or _all(known, 'they are')}"
    if plain in siblings:
        return f"there is no such key; did you mean {quoted(plain)}?"
    # Before the owners: `host` is probably another server's address, although [proxy] has a host.
    if setting := file_settings().get(plain):
        return f"there is no such key; {_our_key(setting, value)}"
    if owners:
        return f"there is no such key here; it belongs in {' or '.join(map(header, owners))}"
    if question := did_you_mean(plain, siblings):
        return f"there is no such key{question}"
    everywhere = {**own_settings(), **file_settings()}
    if guess := nearest(plain, everywhere, 0.8):
        return f"there is no such key; {_our_key(everywhere[guess], value)}"
    return f"there is no such key{_all(siblings, 'here are' if parent else 'every key stands in a table; they are')}"


def _our_key(setting: ServerSetting, value: object) -> str:
    """Return how to write another server's setting, with its value, in asgid's file."""
    if setting.instead:
        return setting.instead
    table, _, key = setting.key.rpartition(".")
    if reserved_key(setting.key):
        return f"{key} in {header(table)} comes with a later version"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if setting.key == "listen.bind":
        texts = [each.strip() for each in text.split(",")] if isinstance(value, str) else [*map(str, _list(value))]
        binds = [translated_value(setting, setting.key, each) for each in texts]
        if len(binds) > 1 and all(binds):
            return f"write {' and '.join(f'bind = {json.dumps(each)}' for each in binds)}, each in its own [[listen]]"
        text = texts[0] if len(texts) == 1 else text
    if has_other_zero(setting, text):
        return f"{setting.zero}, so leave it out"
    word = translated_value(setting, setting.key, text)
    reason = "" if word is not None else f"{setting.key} does not accept {quoted(value)}, so this is an example; "
    word = example_value(setting.key) if word is None else word
    is_text = setting.key in ("app.env", "listen.bind")
    written = (word if setting.key == "app.env" else json.dumps(word)) if is_text else quoted(read_word(word))
    return f"{reason}write {key} = {written} in {header(table)}"


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _all(words: Iterable[str], introduction: str) -> str:
    return f"; {introduction}: {', '.join(dict.fromkeys(words))}"
