"""Keys without effect in this version."""

import pytest

from asgid.config import Config
from asgid.config.reserved_keys import RESERVED_KEYS
from asgid.config.tables import TABLES, App, header
from tests.settings import APP, problems, read


@pytest.mark.parametrize("name", RESERVED_KEYS)
def test_a_reserved_key_is_refused(name):
    table, _, key = name.partition(".")
    if table == "tls":
        text = "[tls.main]\n"
    else:
        model = TABLES[table]
        field = next(iter(model.model_fields)) if key == "*" else key
        written = {"tls": '"main"'}
        defaults = {"queue_timeout": '"5s"', "max_message": '"16MiB"', "socket": '"auto"'}
        text = f"{header(table)}\n{field} = {(written | defaults).get(field, 7)}\n"
    found = problems(APP + text)

    assert any(
        f"has no effect in this version of asgid (later it will {RESERVED_KEYS[name].purpose})" in line
        for line in found
    )


@pytest.mark.parametrize("name", [name for name, row in RESERVED_KEYS.items() if row.allowed_values])
def test_a_reserved_key_may_have_its_allowed_value(name):
    table, _, key = name.partition(".")
    for value in RESERVED_KEYS[name].allowed_values:
        written = f'"{value}"' if isinstance(value, str) else value

        assert read(f"{header(table)}\n{key} = {written}\n") == Config(app=App(target="a:b"))
