"""The documents that are generated from the models."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from asgid import config
from asgid.config import reference
from asgid.config.tables import App
from asgid.errors import ConfigError

DURATIONS = {
    0.0: '"0s"',
    0.000_5: "0.0005",
    0.007: '"7ms"',
    0.5: '"500ms"',
    1.5: '"1500ms"',
    5.0: '"5s"',
    60.0: '"60s"',
    75.0: '"75s"',
    90.0: '"90s"',
    120.0: '"2m"',
    7200.0: '"2h"',
    172800.0: '"2d"',
}


@pytest.mark.parametrize("seconds", DURATIONS)
def test_a_duration_is_written_in_its_shortest_unit(seconds):
    settings = config.parse(f"[reload]\nsettle = {seconds}\n", "f.toml", target="a:b")

    assert f"settle = {DURATIONS[seconds]}" in reference.config_to_toml(settings).splitlines()


SIZES = {1: "1", 1000: '"1kB"', 1024: '"1KiB"', 16_000_000: '"16MB"', 2**24: '"16MiB"', 2**30: '"1GiB"', 12345: "12345"}


@pytest.mark.parametrize("size", SIZES)
def test_a_size_is_written_in_its_shortest_unit(size):
    settings = config.parse(f"[limits]\nbody = {size}\n", "f.toml", target="a:b")

    assert f"body = {SIZES[size]}" in reference.config_to_toml(settings).splitlines()


def test_a_text_is_escaped():
    environment = {"A B": 'x"y\\z\n\x7f\x1b', "Ä": "é\U0001f600"}
    settings = config.Config(app=App(target="a:b", env=environment))

    assert environment == config.parse(reference.config_to_toml(settings), "f.toml").app.env


def test_only_a_socket_file_is_written_with_its_mode():
    settings = config.parse("", "f.toml", binds=["unix:/x", ":1"], target="a:b")

    assert 1 == reference.config_to_toml(settings).count('mode = "0660"')


# -- the JSON Schema ---------------------------------------------------------------------------------------------------


def accepts(schema: Mapping[str, Any], value: object, root: Mapping[str, Any]) -> bool:
    """Return whether `value` is valid. Fails for a keyword of JSON Schema that asgid's schema does not use."""
    if "$ref" in schema:
        return accepts(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root)
    kinds: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
        "object": dict,
        "array": list,
    }
    checks = {
        "type": lambda kind: isinstance(value, kinds[kind]) and (kind == "boolean" or not isinstance(value, bool)),
        "anyOf": lambda schemas: any(accepts(one, value, root) for one in schemas),
        "enum": lambda values: value in values,
        "const": lambda const: value == const,
        "pattern": lambda pattern: re.search(pattern, value) is not None,  # type: ignore[call-overload]
        "minimum": lambda low: value >= low,
        "maximum": lambda high: value <= high,
        "exclusiveMinimum": lambda low: value > low,
        "minItems": lambda count: len(value) >= count,  # type: ignore[arg-type]
        "items": lambda item: all(accepts(item, one, root) for one in value),  # type: ignore[attr-defined]
        "required": lambda names: all(name in value for name in names),  # type: ignore[operator]
        "properties": lambda known: all(
            accepts(known[name], one, root)
            for name, one in value.items()  # type: ignore[attr-defined]
            if name in known
        ),
        "additionalProperties": lambda other: all(
            other and accepts(other, one, root)
            for name, one in value.items()  # type: ignore[attr-defined]
            if name not in schema.get("properties", {})
        ),
    }
    ignored = {"$schema", "$defs", "title", "description", "default"}
    order = sorted(schema.keys() - ignored, key=lambda name: name != "type")  # the other checks need the right type
    return all(checks[name](schema[name]) for name in order)


def parses(document: Mapping[str, Any]) -> bool:
    text = "".join(f"{key} = {reference.toml(value)}\n" for key, value in document.items())
    try:
        config.parse(text, "f.toml")
    except ConfigError:
        return False
    return True


APP = {"target": "a:b"}
DOCUMENTS: list[tuple[bool, dict[str, Any]]] = [
    (True, {"app": APP}),
    (False, {}),
    (False, {"app": {}}),
    (False, {"app": APP, "nonsense": {}}),
    (False, {"app": {**APP, "nonsense": 1}}),
    (False, {"app": {**APP, "factory": "yes"}}),
    (False, {"app": {**APP, "lifespan": "of"}}),
    (True, {"app": {**APP, "env": {"A": "b"}}}),
    (False, {"app": {**APP, "env": {"A": 1}}}),
    (True, {"app": APP, "listen": [{"bind": "unix:/x", "mode": "0600"}, {"bind": ":1"}]}),
    (False, {"app": APP, "listen": [{"bind": "unix:/x", "mode": 600}]}),
    (False, {"app": APP, "listen": []}),
    (False, {"app": APP, "listen": {"bind": ":1"}}),
    *((True, {"app": APP, "timeouts": {"header": value}}) for value in ("30s", "1.5 h", "off", 0, 0.5, 7)),
    *((False, {"app": APP, "timeouts": {"header": value}}) for value in ("30", "30 s ", "offs", True, -1, 10**9)),
    *((False, {"app": APP, "timeouts": {"kill": value}}) for value in ("off", 0, "xoff")),
    *((True, {"app": APP, "timeouts": {"graceful": value}}) for value in ("0s", 0)),
    *((True, {"app": APP, "limits": {"body": value}}) for value in ("16KiB", "16 MB", "off", 0, 7)),
    *((False, {"app": APP, "limits": {"body": value}}) for value in ("16kb", 1.5, True, -1)),
    *((True, {"app": APP, "workers": {"count": value}}) for value in ("auto", 1, 500)),
    *((False, {"app": APP, "workers": {"count": value}}) for value in ("4", 0, 501, True)),
]


@pytest.mark.parametrize(("is_valid", "document"), DOCUMENTS)
def test_the_schema_and_the_parser_agree(is_valid, document):
    schema = reference.json_schema()

    assert is_valid == parses(document)
    assert is_valid == accepts(schema, document, schema)


def test_the_schema_is_json_and_its_defaults_are_valid():
    """No infinity, and each default in the form of a file."""
    schema = json.loads(json.dumps(reference.json_schema(), allow_nan=False))

    for table in schema["$defs"].values():
        assert table["additionalProperties"] is False
        for key, field in table["properties"].items():
            if "$ref" not in field:
                assert field["description"]
                assert key == "target" or accepts(field, field["default"], schema)
