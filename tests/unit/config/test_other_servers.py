"""The data about other servers."""

import pytest

from asgid.config import other_servers
from asgid.config.other_servers import ServerSetting, load, plain_name
from asgid.config.tables import TABLES
from asgid.config.translation import CONVERSIONS

ROWS = [row for rows in load().servers.values() for row in rows]

#: Values of rows that asgid.config.options handles itself.
_HANDLED_BY_OPTIONS = {*("check_command", "config_command", "config_file", "env_file", "python_path", "version_option")}

#: Names with a different meaning in two servers. A message uses the meaning of the first one.
AMBIGUOUS = {"access_log", "group", "server_name", "umask", "user"}


def test_a_row_has_a_key_of_asgid_or_a_sentence():
    """Except for a row without names, which is for the document only."""
    for row in ROWS:
        table, _, key = row.key.rpartition(".")

        assert not row.key or key in TABLES[table].settings(), row
        assert bool(row.names) == bool(row.key or row.instead), row
        assert not (row.key and row.instead), row
        assert row.names or (row.title and row.note), row


def test_a_value_has_a_conversion():
    assert {row.value for row in ROWS} - {""} == CONVERSIONS.keys() | _HANDLED_BY_OPTIONS


def test_a_letter_leads_to_a_long_option():
    assert set(other_servers.letters().values()) <= other_servers.options().keys()


@pytest.mark.parametrize("server", load().servers)
def test_a_name_stands_once_for_each_server(server):
    names = [name for row in load().servers[server] for name in row.names]

    assert len(names) == len(set(names))


def test_a_name_means_the_same_in_every_server_unless_it_is_ambiguous():
    meanings: dict[str, set[str]] = {}
    for server, rows in load().servers.items():
        for row in rows if server != "other" else ():
            for name in row.names:
                if name.startswith("--") or not name.startswith("-"):
                    meanings.setdefault(plain_name(name), set()).add(row.key or row.instead)

    assert {name for name, found in meanings.items() if len(found) > 1} == AMBIGUOUS


def test_without_the_file_a_message_has_no_hint(monkeypatch, tmp_path):
    """The package may be removed below a running master, which must still refuse a wrong file."""
    monkeypatch.setattr(other_servers, "__file__", str(tmp_path / "other_servers.py"))

    assert {} == load.__wrapped__().servers


def test_the_first_server_decides():
    """gunicorn's --umask is for all files, hypercorn's for the socket file."""
    setting: ServerSetting = other_servers.options()["umask"]

    assert "process.umask" == setting.key
